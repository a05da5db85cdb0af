//! Workspace paths as a person writes them: absolute, relative, `..`.

use tmc_apimachinery::names::is_workspace_path;

/// Resolves what was typed against the workspace one is in.
///
/// `:root:a` and `root:a` are absolute, `..` is the parent (repeatable: `..:..`), `.` is here,
/// anything else is below here.
///
/// # Errors
/// A sentence that says what is wrong with the path.
pub fn resolve(current: &str, typed: &str) -> Result<String, String> {
    let absolute = typed.strip_prefix(':').unwrap_or(typed);
    let is_absolute = typed.starts_with(':') || absolute == "root" || absolute.starts_with("root:");
    if is_absolute {
        return check(absolute);
    }
    let mut at: Vec<&str> = current.split(':').collect();
    for part in typed.split(':') {
        match part {
            "." => {}
            ".." if at.len() > 1 => {
                at.pop();
            }
            ".." => return Err(format!("{current} has no parent")),
            name => at.push(name),
        }
    }
    check(&at.join(":"))
}

fn check(path: &str) -> Result<String, String> {
    if is_workspace_path(path) {
        Ok(path.to_owned())
    } else {
        Err(format!(
            "\"{path}\" is not a workspace path: lower-case names separated by colons, like root:team"
        ))
    }
}

/// Parent and name of a workspace; `None` for the root.
pub fn split(path: &str) -> Option<(&str, &str)> {
    path.rsplit_once(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_relative_or_upwards() {
        for (current, typed, expected) in [
            ("root", "team", "root:team"),
            ("root:team", "a:b", "root:team:a:b"),
            ("root:team", "root:x", "root:x"),
            ("root:team", ":root", "root"),
            ("root:team:a", "..", "root:team"),
            ("root:team:a", "..:..", "root"),
            ("root:team", "..:b", "root:b"),
            ("root:team", ".", "root:team"),
        ] {
            assert_eq!(
                resolve(current, typed).as_deref(),
                Ok(expected),
                "{current} {typed}"
            );
        }
    }

    #[test]
    fn what_is_no_path_is_explained() {
        assert!(resolve("root", "..").is_err());
        assert!(resolve("root", "Team").unwrap_err().contains("lower-case"));
        assert!(resolve("root", "a::b").is_err());
    }
}
