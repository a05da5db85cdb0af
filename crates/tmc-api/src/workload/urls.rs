//! Where a target's views are.

fn view(base: &str, service: &str, target: (&str, &str, &str)) -> String {
    let (cluster, name, uid) = target;
    format!(
        "{}/services/{service}/{cluster}/{name}/{uid}",
        base.trim_end_matches('/')
    )
}

/// URL of what a target is to run: `<base>/services/syncer/<cluster>/<name>/<uid>`.
pub fn syncer_url(base: &str, cluster: &str, name: &str, uid: &str) -> String {
    view(base, "syncer", (cluster, name, uid))
}

/// URL of what a target brings up: `<base>/services/upsyncer/<cluster>/<name>/<uid>`.
pub fn upsyncer_url(base: &str, cluster: &str, name: &str, uid: &str) -> String {
    view(base, "upsyncer", (cluster, name, uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_views_url_holds_workspace_name_and_uid() {
        assert_eq!(
            syncer_url("https://hub:6443/", "2abc", "east", "u1"),
            "https://hub:6443/services/syncer/2abc/east/u1"
        );
        assert_eq!(
            upsyncer_url("https://hub:6443", "2abc", "east", "u1"),
            "https://hub:6443/services/upsyncer/2abc/east/u1"
        );
    }
}
