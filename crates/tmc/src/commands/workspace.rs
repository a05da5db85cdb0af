//! `tmc workspace …`

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tmc_apimachinery::meta::meta;
use tmc_runtime::client::{DeleteParams, ListParams, PatchKind};

use crate::cli::{Format, Global, GrantArgs, Role, Usage, WorkspaceCommand};
use crate::context::{Context, ensure, explain, wait_for};
use crate::kubeconfig::{self, Identity};
use crate::{output, workspace_path};

const CURRENT: &str = "workspace.kcp.io/current";
const PREVIOUS: &str = "workspace.kcp.io/previous";

/// Runs a workspace command; returns what goes to stdout.
///
/// # Errors
/// A sentence for the person who typed it.
pub async fn run(global: &Global, command: &WorkspaceCommand) -> Result<String> {
    match command {
        WorkspaceCommand::Grant(args) => grant(global, args).await,
        WorkspaceCommand::Create { name, enter } => {
            create(&Context::load_with_workspaces(global)?, name, *enter).await
        }
        WorkspaceCommand::Use { path } => {
            enter(&Context::load_with_workspaces(global)?, path).await
        }
        WorkspaceCommand::Tree => tree(&Context::load_with_workspaces(global)?).await,
        WorkspaceCommand::List => {
            list(&Context::load_with_workspaces(global)?, global.format()).await
        }
        WorkspaceCommand::Kubeconfig {
            path,
            user,
            group,
            ttl,
        } => {
            let context = Context::load_with_workspaces(global)?;
            let path = resolve(&context, path)?;
            issue(
                &context,
                &path,
                &Person {
                    user,
                    groups: group,
                    ttl,
                },
            )
            .await
        }
    }
}

fn resolve(context: &Context, typed: &str) -> Result<String> {
    workspace_path::resolve(&context.workspace, typed).map_err(|why| anyhow!(why))
}

/// Makes a workspace and waits until it can be used.
///
/// # Errors
/// When it cannot be made, or does not become Ready.
pub async fn create(context: &Context, name: &str, and_enter: bool) -> Result<String> {
    let here = &context.workspace;
    let client = context.workspaces_in(here);
    let object = json!({
        "apiVersion": "tenancy.kcp.io/v1alpha1", "kind": "Workspace",
        "metadata": {"name": name}, "spec": {},
    });
    ensure(&client, "", &object)
        .await
        .map_err(|e| explain(e, here))?;
    wait_for(30, || async {
        let found = client.get("", name).await.map_err(|e| explain(e, here))?;
        let phase = found["status"]["phase"]
            .as_str()
            .unwrap_or("unknown")
            .to_owned();
        Ok(if phase == "Ready" {
            Ok(())
        } else {
            Err(format!("workspace {name} is {phase}"))
        })
    })
    .await?;
    let path = format!("{here}:{name}");
    if and_enter {
        return enter(context, &format!(":{path}")).await;
    }
    Ok(format!("workspace {path} is ready"))
}

async fn enter(context: &Context, typed: &str) -> Result<String> {
    let mut document = kubeconfig::read(&context.file)?;
    let current = kubeconfig::current_context(&document)?;
    if typed == "-" {
        let previous = kubeconfig::context(&document, PREVIOUS)
            .context("there is no previous workspace yet")?;
        let now = kubeconfig::context(&document, &current).unwrap_or(Value::Null);
        let cluster = kubeconfig::cluster_of(&document, &previous)?;
        let back = kubeconfig::cluster_of(&document, &now)?;
        kubeconfig::set_context(&mut document, PREVIOUS, &now, &back);
        kubeconfig::set_context(&mut document, CURRENT, &previous, &cluster);
        kubeconfig::write(&context.file, &document)?;
        let server = cluster["server"].as_str().unwrap_or_default();
        return Ok(format!("current workspace is {}", workspace_in(server)));
    }
    let path = resolve(context, typed)?;
    context.logical_cluster(&path).await?;
    let now = kubeconfig::context(&document, &current).context("the current context is missing")?;
    let old = kubeconfig::cluster_of(&document, &now)?;
    let mut new = old.clone();
    new["server"] = kubeconfig::server_for(&old, &path)?.into();
    kubeconfig::set_context(&mut document, PREVIOUS, &now, &old);
    kubeconfig::set_context(&mut document, CURRENT, &now, &new);
    kubeconfig::write(&context.file, &document)?;
    Ok(format!("current workspace is {path}"))
}

fn workspace_in(server: &str) -> &str {
    server
        .split_once("/clusters/")
        .map_or("root", |(_, path)| path)
}

async fn tree(context: &Context) -> Result<String> {
    let mut lines = vec![context.workspace.clone()];
    subtree(context, &context.workspace, "", &mut lines).await?;
    Ok(lines.join("\n"))
}

/// Adds the lines of what is below a workspace. One that may not be entered is a leaf.
async fn subtree(
    context: &Context,
    path: &str,
    indent: &str,
    lines: &mut Vec<String>,
) -> Result<()> {
    let client = context.workspaces_in(path);
    let list = match client.list("", &ListParams::default()).await {
        Ok(list) => list,
        Err(error) if error.code() == Some(403) && path != context.workspace => return Ok(()),
        Err(error) => return Err(explain(error, path)),
    };
    let workspaces = items(&list);
    for (index, workspace) in workspaces.iter().enumerate() {
        let name = meta(workspace).name();
        let last = index + 1 == workspaces.len();
        let (branch, trunk) = if last {
            ("└── ", "    ")
        } else {
            ("├── ", "│   ")
        };
        lines.push(format!("{indent}{branch}{name}"));
        let (child, indent) = (format!("{path}:{name}"), format!("{indent}{trunk}"));
        Box::pin(subtree(context, &child, &indent, lines)).await?;
    }
    Ok(())
}

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map_or(&[], Vec::as_slice)
}

async fn list(context: &Context, format: Format) -> Result<String> {
    let client = context.workspaces_in(&context.workspace);
    let list = client
        .list("", &ListParams::default())
        .await
        .map_err(|e| explain(e, &context.workspace))?;
    output::objects(
        format,
        items(&list),
        &["NAME", "PHASE", "URL", "AGE"],
        |workspace| {
            let text = |pointer: &str| {
                workspace
                    .pointer(pointer)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            vec![
                meta(workspace).name().to_owned(),
                text("/status/phase"),
                text("/spec/URL"),
                output::age(workspace),
            ]
        },
    )
}

/// Whom a role is given to.
#[derive(Clone, Debug)]
pub enum Grantee {
    /// A user name.
    User(String),
    /// A group.
    Group(String),
    /// Whoever may write Placements in the workspace at this path.
    Workspace(String),
}

async fn grant(global: &Global, args: &GrantArgs) -> Result<String> {
    // A --workspace before the command's name means the same here as one after it: the grantee.
    let context = Context::load_with_workspaces(&Global {
        workspace: None,
        ..global.clone()
    })?;
    let path = resolve(&context, &args.path)?;
    let grantee = match (&args.user, &args.group, &args.workspace) {
        (Some(user), None, None) => Grantee::User(user.clone()),
        (None, Some(group), None) => Grantee::Group(group.clone()),
        (None, None, Some(workspace)) => Grantee::Workspace(resolve(&context, workspace)?),
        _ => {
            let text = "say to whom: exactly one of --user, --group and --workspace";
            bail!(Usage(text.to_owned()));
        }
    };
    give(&context, &path, &grantee, args.role).await
}

/// Gives a role in a workspace; again is no change.
///
/// # Errors
/// When the caller may not, or a workspace does not exist.
pub async fn give(context: &Context, path: &str, grantee: &Grantee, role: Role) -> Result<String> {
    let (kind, name, shown) = match grantee {
        Grantee::User(user) => ("User", user.clone(), format!("user {user}")),
        Grantee::Group(group) => ("Group", group.clone(), format!("group {group}")),
        Grantee::Workspace(workspace) => {
            if role != Role::Use {
                bail!("a workspace can only be given the role use");
            }
            let cluster = context.logical_cluster(workspace).await?;
            (
                "User",
                format!("system:kcp:workspace:{cluster}"),
                format!("workspace {workspace}"),
            )
        }
    };
    let (role_name, word) = match role {
        Role::Admin => ("cluster-admin", "admin"),
        Role::Edit => ("edit", "edit"),
        Role::View => ("view", "view"),
        Role::Use => ("tmc:use", "use"),
    };
    let api = "rbac.authorization.k8s.io";
    let hash = tmc_api::hashes::base36_sha224(&format!("{kind}/{name}"));
    let binding = json!({
        "apiVersion": format!("{api}/v1"), "kind": "ClusterRoleBinding",
        "metadata": {"name": format!("tmc-{word}-{}", &hash[..8])},
        "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": role_name},
        "subjects": [{"apiGroup": api, "kind": kind, "name": name}],
    });
    let client = context.resource_in(path, api, "v1", "clusterrolebindings");
    ensure(&client, "", &binding)
        .await
        .map_err(|e| explain(e, path))?;
    Ok(format!("{shown} has role {word} in {path}"))
}

/// For whom a certificate is made.
pub struct Person<'a> {
    /// User name.
    pub user: &'a str,
    /// Groups.
    pub groups: &'a [String],
    /// Validity, `24h`.
    pub ttl: &'a str,
}

/// Makes a key, has the workspace sign a certificate, prints a kubeconfig.
///
/// # Errors
/// When the request is refused, with the hub's reason.
pub async fn issue(context: &Context, path: &str, person: &Person<'_>) -> Result<String> {
    let ttl = seconds(person.ttl)?;
    let identity = kubeconfig::new_identity(person.user, person.groups)?;
    let api = "certificates.k8s.io";
    let client = context.resource_in(path, api, "v1", "certificatesigningrequests");
    let request = json!({
        "apiVersion": format!("{api}/v1"), "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "tmc-"},
        "spec": {
            "request": STANDARD.encode(&identity.request), "expirationSeconds": ttl,
            "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"],
        },
    });
    let made = client
        .create("", &request)
        .await
        .map_err(|e| explain(e, path))?;
    let name = meta(&made).name();
    let approval = json!({"status": {"conditions": [{
        "type": "Approved", "status": "True", "reason": "ApprovedByCaller",
        "message": "approved by whoever ran tmc workspace kubeconfig",
    }]}});
    let signed = client
        .patch("", name, "approval", PatchKind::Merge, &approval)
        .await
        .map_err(|e| explain(e, path))?;
    let Some(certificate) = signed
        .pointer("/status/certificate")
        .and_then(Value::as_str)
    else {
        bail!(
            "the certificate was not issued: {}",
            output::why(&signed, "Failed")
        );
    };
    let document = kubeconfig::read(&context.file)?;
    let identity = Identity {
        user: person.user.to_owned(),
        certificate: certificate.to_owned(),
        key: STANDARD.encode(&identity.key),
    };
    let text = kubeconfig::for_identity(&document, path, &identity)?;
    // The certificate is out; the request has no further use.
    let _ = client.delete("", name, &DeleteParams::default()).await;
    Ok(text)
}

fn seconds(text: &str) -> Result<u64> {
    let bad = || {
        Usage(format!(
            "--ttl {text}: write a duration like 30m, 24h or 7d"
        ))
    };
    let unit = text
        .find(|c: char| c.is_ascii_alphabetic())
        .ok_or_else(bad)?;
    let number: u64 = text[..unit].parse().map_err(|_| bad())?;
    let factor = match &text[unit..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err(bad().into()),
    };
    let seconds = number.checked_mul(factor).ok_or_else(bad)?;
    if (600..=365 * 86400).contains(&seconds) {
        Ok(seconds)
    } else {
        bail!(Usage(format!("--ttl {text}: from 10m to 8760h")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_has_a_unit_and_bounds() {
        assert_eq!(seconds("24h").expect("hours"), 86400);
        assert_eq!(seconds("7d").expect("days"), 7 * 86400);
        for bad in ["24", "h", "1s", "9999999h", "soon"] {
            let error = seconds(bad).unwrap_err();
            assert!(error.to_string().contains("--ttl"), "{bad}");
            assert!(
                error.is::<Usage>(),
                "{bad}: a mistake of typing exits with 2"
            );
        }
    }
}
