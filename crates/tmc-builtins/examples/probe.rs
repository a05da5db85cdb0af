//! x
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
        if v["table"] == true {
            let now = v["now"].as_i64().unwrap();
            let t = tmc_apimachinery::table::table(
                &d.columns,
                &[o],
                json!({}),
                tmc_apimachinery::table::IncludeObject::None,
                true,
                now,
            );
            println!("{t}");
            continue;
        }
        if d.subresources.status && v["old"].is_null() {
            o.as_object_mut().unwrap().remove("status");
        }
        let schema = d.schema.as_ref().unwrap();
        let pruned = schema.prune(&mut o);
        tmc_builtins::default(&gvk, &mut o);
        schema.default(&mut o);
        let once = o.clone();
        tmc_builtins::default(&gvk, &mut o);
        schema.default(&mut o);
        assert_eq!(once, o, "idempotent");
        let old = if v["old"].is_null() {
            None
        } else {
            Some(&v["old"])
        };
        let mut causes = schema.validate(&o);
        if let Some(old) = old {
            for path in &d.immutable_fields {
                let p = format!("/{}", path.replace('.', "/"));
                if old.pointer(&p) != o.pointer(&p) {
                    causes.push(tmc_apimachinery::status::Cause::invalid(
                        path.as_str(),
                        o.pointer(&p).unwrap_or(&Value::Null),
                        "field is immutable",
                    ));
                }
            }
        }
        if causes.is_empty() {
            causes.extend(tmc_builtins::validate(&gvk, &o, old));
        }
        println!("{}", json!({"object":o,"causes":causes,"pruned":pruned}));
    }
}
