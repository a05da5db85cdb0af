//! x
#![allow(clippy::unwrap_used)]
use serde_json::{Value, json};
use std::io::BufRead;
fn main() {
    let defs = tmc_builtins::definitions();
    for line in std::io::stdin().lock().lines() {
        let v: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let mut o = v["object"].clone();
        let api = o["apiVersion"].as_str().unwrap().to_owned();
        let gv = tmc_apimachinery::GroupVersion::parse(&api).unwrap();
        let gvk = tmc_apimachinery::GroupVersionKind::new(
            &gv.group,
            &gv.version,
            o["kind"].as_str().unwrap(),
        );
        let d = defs.iter().find(|d| d.gvk == gvk).unwrap();
        if d.subresources.status {
            o.as_object_mut().unwrap().remove("status");
        }
        let schema = d.schema.as_ref().unwrap();
        schema.prune(&mut o);
        tmc_builtins::default(&gvk, &mut o);
        schema.default(&mut o);
        let once = o.clone();
        tmc_builtins::default(&gvk, &mut o);
        schema.default(&mut o);
        assert_eq!(once, o, "idempotent");
        let mut causes = schema.validate(&o);
        causes.extend(tmc_builtins::validate(&gvk, &o, None));
        println!("{}", json!({"object":o,"causes":causes}));
    }
}
