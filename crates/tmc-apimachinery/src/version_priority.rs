//! Which version of a group goes first (Kubernetes' "version priority", as in the documentation of
//! CustomResourceDefinition versioning).

use std::cmp::Ordering;

/// Kubernetes version priority: GA before beta before alpha, higher first; the rest lexically
/// after. `Less` means `a` comes first.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    match (priority(a), priority(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// Stability, major and minor number of `v1`, `v2beta3`; greater goes first.
fn priority(version: &str) -> Option<(u8, u64, u64)> {
    let number = |s: &str| -> Option<u64> {
        s.bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| s.parse().ok())
            .flatten()
    };
    let rest = version.strip_prefix('v')?;
    for (stability, word) in [(1, "beta"), (0, "alpha")] {
        if let Some((major, minor)) = rest.split_once(word) {
            return Some((stability, number(major)?, number(minor)?));
        }
    }
    Some((2, number(rest)?, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_stability_and_number() {
        let mut versions = [
            "v1alpha1",
            "foo10",
            "v1",
            "v11beta2",
            "v2",
            "v10beta3",
            "v3beta1",
            "v12alpha1",
            "foo1",
            "v10",
            "v99999999999999999999999",
            "v1beta",
            "x",
        ];
        versions.sort_by(|a, b| compare_versions(a, b));
        assert_eq!(
            versions,
            [
                "v10",
                "v2",
                "v1",
                "v11beta2",
                "v10beta3",
                "v3beta1",
                "v12alpha1",
                "v1alpha1",
                "foo1",
                "foo10",
                "v1beta",
                "v99999999999999999999999",
                "x",
            ]
        );
    }
}
