//! `tmc get …`

use anyhow::Result;
use serde_json::Value;
use tmc_apimachinery::meta::meta;
use tmc_runtime::client::ListParams;

use crate::cli::{GetCommand, Global};
use crate::context::{Context, explain};
use crate::output;

/// Runs a get command.
///
/// # Errors
/// A sentence for the person who typed it.
pub async fn run(global: &Global, command: &GetCommand) -> Result<String> {
    let context = Context::load(global)?;
    match command {
        GetCommand::Targets => targets(&context, global).await,
    }
}

async fn targets(context: &Context, global: &Global) -> Result<String> {
    let client = context.resource("workload.kcp.io", "v1alpha1", "synctargets");
    let list = client
        .list("", &ListParams::default())
        .await
        .map_err(|e| explain(e, &context.workspace))?;
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    let headers = ["NAME", "MODE", "PHASE", "READY", "RESOURCES", "KEY", "AGE"];
    output::objects(global.output, items, &headers, |target| {
        let text = |pointer: &str| {
            target
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or("-")
                .to_owned()
        };
        let synced = target
            .pointer("/status/syncedResources")
            .and_then(Value::as_array);
        let accepted = synced.map_or(0, |l| l.iter().filter(|r| r["state"] == "Accepted").count());
        vec![
            meta(target).name().to_owned(),
            text("/spec/syncerConfig/mode"),
            text("/status/phase"),
            output::condition(target, "Ready").to_owned(),
            accepted.to_string(),
            meta(target)
                .label("internal.workload.kcp.io/key")
                .unwrap_or("-")
                .to_owned(),
            output::age(target),
        ]
    })
}
