//! `tmc bind compute`

use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};
use tmc_api::scheduling::PlacementSpec;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::selector::{LabelSelector, Operator};
use tmc_runtime::ResourceClient;
use tmc_runtime::client::ListParams;

use crate::cli::{BindCommand, BindComputeArgs, Global};
use crate::commands::member::PROVIDER;
use crate::context::{Context, ensure, explain, wait_for};
use crate::{output, workspace_path};

/// How soon the hub has looked again at a Placement that was refused.
const SECOND_LOOK: std::time::Duration = std::time::Duration::from_secs(7);

/// Runs a bind command.
///
/// # Errors
/// A sentence for the person who typed it.
pub async fn run(global: &Global, command: &BindCommand) -> Result<String> {
    let BindCommand::Compute(args) = command;
    compute(&Context::load(global)?, args).await
}

/// Makes a Placement and waits until it is scheduled; again is no change.
///
/// # Errors
/// When it cannot be made, or finds no place in time: then with the scheduler's reason.
pub async fn compute(context: &Context, args: &BindComputeArgs) -> Result<String> {
    let here = &context.workspace;
    let provider = match &args.provider {
        Some(typed) => typed_provider(here, typed, context.workspaces)?,
        None => default_provider(context).await?,
    };
    let placement = placement(here, &provider, args)?;
    let name = placement["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let client = context.resource("scheduling.kcp.io", "v1alpha1", "placements");
    let made = ensure(&client, "", &placement)
        .await
        .map_err(|e| explain(e, here))?;
    if let Some(differs) = difference(&made, &placement, here) {
        bail!(
            "placement {name} is in {here} already, and other than asked for: {differs}; choose another \
             --name, or change it: kubectl edit placement {name}"
        );
    }
    let wait = Wait {
        context,
        made: &made,
        provider: &provider,
        seconds: args.timeout,
    };
    let location = wait.scheduled(&client).await.map_err(|error| {
        anyhow!(
            "{error:#}\nplacement {name} stays in {here} and waits for a place; to remove it: \
             kubectl delete placement {name}"
        )
    })?;
    Ok(format!(
        "placement {name} is scheduled to location {location} of {provider}"
    ))
}

/// In what an existing Placement differs from the one that is asked for, as far as `bind` says
/// anything of it; none if in nothing.
fn difference(found: &Value, wanted: &Value, here: &str) -> Option<String> {
    let spec = |object: &Value| -> Option<PlacementSpec> {
        serde_json::from_value(object["spec"].clone()).ok()
    };
    let (is, asked) = (spec(found)?, spec(wanted)?);
    let providers = [&is, &asked].map(|spec| spec.location_workspace.as_deref().unwrap_or(here));
    let same = [
        (
            "namespaceSelector",
            is.namespace_selector == asked.namespace_selector,
        ),
        (
            "locationSelectors",
            is.location_selectors == asked.location_selectors,
        ),
        ("locationWorkspace", providers[0] == providers[1]),
    ];
    let told = same
        .into_iter()
        .filter(|(_, same)| !same)
        .map(|(field, _)| {
            let shown = |object: &Value| match &object["spec"][field] {
                Value::Null => "absent".to_owned(),
                value => value.to_string(),
            };
            format!("spec.{field} is {}, not {}", shown(found), shown(wanted))
        });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// A Placement that is to be scheduled.
struct Wait<'a> {
    context: &'a Context,
    made: &'a Value,
    provider: &'a str,
    seconds: u64,
}

impl Wait<'_> {
    /// The name of its Location, as soon as it has one.
    async fn scheduled(&self, client: &ResourceClient) -> Result<String> {
        let (here, name) = (&self.context.workspace, meta(self.made).name());
        // One that was refused before may have been permitted since: the hub looks again soon.
        let before = output::find_condition(self.made, "Scheduled");
        let started = tokio::time::Instant::now();
        wait_for(self.seconds, || async {
            let found = client.get("", name).await.map_err(|e| explain(e, here))?;
            if output::condition(&found, "Scheduled") == "True" {
                let location = output::text(&found, "/status/selectedLocation/locationName");
                return Ok(Ok(location.to_owned()));
            }
            let why = output::why(&found, "Scheduled");
            let news = output::find_condition(&found, "Scheduled") != before;
            if why.starts_with("LocationForbidden") && (news || started.elapsed() >= SECOND_LOOK) {
                let known = self.context.logical_cluster(self.provider).await.is_ok();
                bail!("{}", forbidden(name, here, self.provider, known, &why));
            }
            Ok(Err(format!("placement {name} has no place: {why}")))
        })
        .await
    }
}

/// That a Placement may not use the Locations of a provider, which may not even exist: whoever may
/// not enter it is not told.
fn forbidden(name: &str, here: &str, provider: &str, known: bool, why: &str) -> String {
    let who = if known {
        format!("an administrator of {provider}")
    } else {
        format!("if {provider} exists, an administrator of it")
    };
    format!(
        "placement {name} may not use the Locations of {provider}: {}\n\
         {who} can run: tmc workspace grant {provider} --workspace {here} --role use",
        output::without_remedy(why)
    )
}

/// The workspace that was typed; a hub without workspaces has no other.
fn typed_provider(here: &str, typed: &str, workspaces: bool) -> Result<String> {
    let provider = workspace_path::resolve(here, typed).map_err(|why| anyhow!(why))?;
    if !workspaces && provider != here {
        bail!(
            "there is no workspace {provider}: a bare Kubernetes hub is one, called {here}; its own \
             clusters are used: tmc bind compute"
        );
    }
    Ok(provider)
}

async fn default_provider(context: &Context) -> Result<String> {
    if !context.workspaces {
        return Ok(context.workspace.clone());
    }
    let targets = context.resource("workload.kcp.io", "v1alpha1", "synctargets");
    let one = ListParams {
        limit: 1,
        ..ListParams::default()
    };
    match targets.list("", &one).await {
        Ok(list) if list["items"].as_array().is_some_and(|l| !l.is_empty()) => {
            Ok(context.workspace.clone())
        }
        Ok(_) => Ok(PROVIDER.to_owned()),
        Err(error) if error.code() == Some(403) => Ok(PROVIDER.to_owned()),
        Err(error) => Err(explain(error, &context.workspace)),
    }
}

fn placement(here: &str, provider: &str, args: &BindComputeArgs) -> Result<Value> {
    let namespaces = selector_object("--namespace-selector", &args.namespace_selector)?;
    let mut locations = Vec::new();
    for text in &args.location_selectors {
        locations.push(selector_object("--location-selectors", text)?);
    }
    if locations.is_empty() {
        locations.push(json!({}));
    }
    let name = args.name.clone().unwrap_or_else(|| {
        let selectors = args.location_selectors.join(",");
        tmc_api::hashes::bind_placement_name(&args.namespace_selector, &selectors, provider)
    });
    let mut spec = json!({
        "namespaceSelector": namespaces, "locationSelectors": locations,
        "locationResource": {"group": "workload.kcp.io", "version": "v1alpha1", "resource": "synctargets"},
    });
    if provider != here {
        spec["locationWorkspace"] = provider.into();
    }
    Ok(json!({
        "apiVersion": "scheduling.kcp.io/v1alpha1", "kind": "Placement",
        "metadata": {"name": name}, "spec": spec,
    }))
}

/// A selector as typed (`a=b,c in (d,e)`) in the form of objects.
fn selector_object(flag: &str, text: &str) -> Result<Value> {
    let selector = LabelSelector::parse(text).map_err(|error| anyhow!("{flag} {text}: {error}"))?;
    let mut expressions = Vec::new();
    for requirement in selector.requirements() {
        let (operator, values) = match &requirement.operator {
            Operator::In(values) => ("In", values.clone()),
            Operator::NotIn(values) => ("NotIn", values.clone()),
            Operator::Exists => ("Exists", Vec::new()),
            Operator::DoesNotExist => ("DoesNotExist", Vec::new()),
            Operator::GreaterThan(_) | Operator::LessThan(_) => {
                bail!("{flag} {text}: > and < are not possible here")
            }
        };
        let mut expression = json!({"key": requirement.key, "operator": operator});
        if !values.is_empty() {
            expression["values"] = json!(values);
        }
        expressions.push(expression);
    }
    Ok(if expressions.is_empty() {
        json!({})
    } else {
        json!({"matchExpressions": expressions})
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_that_may_not_exist_is_not_said_to_have_an_administrator() {
        let said = |known| forbidden("p", "root:demo", "root:nope", known, "LocationForbidden: m");
        assert!(
            said(true).contains("\nan administrator of root:nope can run: tmc workspace grant")
        );
        assert!(said(false).contains("\nif root:nope exists, an administrator of it can run"));
    }

    #[test]
    fn an_existing_placement_of_the_name_that_selects_otherwise_is_told_with_what_differs() {
        let args = |namespaces: &str, locations: &[&str]| BindComputeArgs {
            provider: None,
            namespace_selector: namespaces.to_owned(),
            location_selectors: locations.iter().map(|&l| l.to_owned()).collect(),
            name: Some("p".to_owned()),
            timeout: 0,
        };
        let of = |provider: &str, args: &BindComputeArgs| {
            placement("root:shop", provider, args).expect("a Placement")
        };
        let wanted = of("root:compute", &args("", &[]));
        let mut found = wanted.clone();
        found["spec"]["targets"] = 2.into();
        let differs = |found: &Value| difference(found, &wanted, "root:shop");
        assert_eq!(
            differs(&found),
            None,
            "what bind does not say may be as it is"
        );
        let found = of("root:compute", &args("team=shop", &[]));
        let said = differs(&found).expect("another");
        assert!(said.starts_with("spec.namespaceSelector is {"), "{said}");
        assert!(said.ends_with(", not {}"), "{said}");
        let found = of("root:compute", &args("", &["zone=eu"]));
        let said = differs(&found).expect("another");
        assert!(said.starts_with("spec.locationSelectors is [{"), "{said}");
        let found = of("root:shop", &args("", &[]));
        let said = differs(&found).expect("another");
        assert_eq!(
            said,
            "spec.locationWorkspace is absent, not \"root:compute\""
        );
    }

    #[test]
    fn a_hub_without_workspaces_has_no_other_provider() {
        let typed = |typed, workspaces| typed_provider("root", typed, workspaces);
        assert_eq!(typed("compute", true).expect("a path"), "root:compute");
        assert_eq!(typed("root", false).expect("itself"), "root");
        let refused = typed("compute", false).unwrap_err().to_string();
        assert!(
            refused.starts_with("there is no workspace root:compute:"),
            "{refused}"
        );
    }

    #[test]
    fn a_typed_selector_becomes_an_object() {
        assert_eq!(selector_object("--x", "").expect("empty"), json!({}));
        let object = selector_object("--x", "a=b,c notin (d,e),f").expect("selector");
        assert_eq!(
            object,
            json!({"matchExpressions": [
                {"key": "a", "operator": "In", "values": ["b"]},
                {"key": "c", "operator": "NotIn", "values": ["d", "e"]},
                {"key": "f", "operator": "Exists"},
            ]})
        );
        assert!(
            selector_object("--x", "a in")
                .unwrap_err()
                .to_string()
                .starts_with("--x")
        );
    }
}
