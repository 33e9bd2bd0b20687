//! Patterns of logins: `*` stands for any number of characters, including none.

use std::cmp::Reverse;

/// The login of an `[[account]]`, or one of an upstream's `logins`.
#[derive(Debug)]
pub(super) struct Pattern(String);

impl Pattern {
    pub(super) fn new(pattern: &str) -> Self {
        Self(pattern.to_owned())
    }

    /// The sort key of patterns: the most specific pattern has the lowest rank.
    pub(super) fn rank(&self) -> (Reverse<usize>, usize) {
        let stars = self.0.matches('*').count();
        (Reverse(self.0.chars().count() - stars), stars)
    }

    /// Whether `login` matches. In its domain, after its last `@`, ASCII case does not matter (RFC 5321 §2.4: a local part is
    /// case-sensitive, a domain is not).
    pub(super) fn matches(&self, login: &str) -> bool {
        let (pattern, login) = (self.0.as_bytes(), login.as_bytes());
        let domain = login.iter().rposition(|octet| *octet == b'@').unwrap_or(login.len());
        let same =
            |p: usize, l: usize| pattern[p] == login[l] || (l > domain && pattern[p].eq_ignore_ascii_case(&login[l]));
        let (mut p, mut l) = (0, 0);
        // The index of the last `*` seen, and where in the login its match ends so far.
        let mut star: Option<(usize, usize)> = None;
        while l < login.len() {
            if pattern.get(p) == Some(&b'*') {
                star = Some((p, l));
                p += 1;
            } else if p < pattern.len() && same(p, l) {
                p += 1;
                l += 1;
            } else if let Some((at, end)) = star {
                // Let the `*` match one octet more.
                star = Some((at, end + 1));
                p = at + 1;
                l = end + 1;
            } else {
                return false;
            }
        }
        pattern[p..].iter().all(|octet| *octet == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars() {
        let cases = [
            ("*", "", true),
            ("*", "anyone@example.org", true),
            ("*@example.org", "jane@example.org", true),
            ("*@example.org", "jane@example.orgs", false),
            ("*@example.org", "@example.org", true),
            ("jane", "jane", true),
            ("jane", "janet", false),
            ("jane", "jan", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("**", "x", true),
            ("ü*", "über", true),
            ("", "x", false),
        ];
        for (pattern, login, expected) in cases {
            assert_eq!(
                Pattern::new(pattern).matches(login),
                expected,
                "{pattern} against {login}"
            );
        }
    }

    #[test]
    fn case_matters_before_the_at_only() {
        assert!(Pattern::new("*@Example.ORG").matches("jane@exAMPLE.org"));
        assert!(Pattern::new("Jane@example.org").matches("Jane@EXAMPLE.ORG"));
        assert!(!Pattern::new("Jane@example.org").matches("jane@example.org"));
        assert!(!Pattern::new("JANE").matches("jane"));
    }

    #[test]
    fn specific_before_general() {
        let mut patterns: Vec<_> = ["*", "*@example.org", "jane*", "*@sub.example.org", "jane"]
            .map(Pattern::new)
            .into();
        patterns.sort_by_key(Pattern::rank);
        let order: Vec<_> = patterns.iter().map(|pattern| pattern.0.as_str()).collect();
        assert_eq!(order, ["*@sub.example.org", "*@example.org", "jane", "jane*", "*"]);
    }

    proptest::proptest! {
        #[test]
        fn every_login_matches_what_it_is_cut_from(a in "[^*]{0,8}", b in "[^*]{0,8}", c in "[^*]{0,8}") {
            let login = format!("{a}{b}{c}");
            let (left, right, both) = (format!("{a}*"), format!("*{c}"), format!("{a}*{c}"));
            for pattern in [&login, &left, &right, &both] {
                proptest::prop_assert!(Pattern::new(pattern).matches(&login));
            }
        }
    }
}
