//! The lines by which two texts differ.

/// Lines that only the first text has, with `-`, and only the second, with `+`, in their order.
pub(super) fn lines(left: &str, right: &str) -> Vec<String> {
    let left: Vec<&str> = left.lines().collect();
    let right: Vec<&str> = right.lines().collect();
    let common = common_lengths(&left, &right);
    let (mut l, mut r) = (0, 0);
    let mut found = Vec::new();
    while l < left.len() || r < right.len() {
        if l < left.len() && r < right.len() && left[l] == right[r] {
            (l, r) = (l + 1, r + 1);
        } else if r == right.len() || (l < left.len() && common[l + 1][r] >= common[l][r + 1]) {
            found.push(format!("-{}", left[l]));
            l += 1;
        } else {
            found.push(format!("+{}", right[r]));
            r += 1;
        }
    }
    found
}

/// For each pair of places the length of the longest common subsequence from there on.
fn common_lengths(left: &[&str], right: &[&str]) -> Vec<Vec<usize>> {
    let mut common = vec![vec![0; right.len() + 1]; left.len() + 1];
    for l in (0..left.len()).rev() {
        for r in (0..right.len()).rev() {
            common[l][r] = if left[l] == right[r] {
                common[l + 1][r + 1] + 1
            } else {
                common[l + 1][r].max(common[l][r + 1])
            };
        }
    }
    common
}

#[test]
fn a_difference_is_the_lines_of_one_side_only() {
    assert!(lines("a\nb", "a\nb").is_empty());
    assert_eq!(lines("a\nb\nc", "a\nc\nd"), ["-b", "+d"]);
    assert_eq!(lines("", "x"), ["+x"]);
}
