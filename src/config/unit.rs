//! Numbers with units: `"10m"`, `"14 days"`, `"10 MB"`.

use super::key::{Raw, Wrong};

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// A plain count.
    One,
    Seconds,
    Days,
    Octets,
}

/// The names of a unit in lower case, and how many seconds or octets it has.
type UnitNames = (&'static [&'static str], u64);

const TIMES: [UnitNames; 5] = [
    (&["s", "sec", "second", "seconds"], 1),
    (&["m", "min", "minute", "minutes"], 60),
    (&["h", "hour", "hours"], 3600),
    (&["d", "day", "days"], 86_400),
    (&["w", "week", "weeks"], 7 * 86_400),
];

const SIZES: [UnitNames; 7] = [
    (&["b", "byte", "bytes", "octet", "octets"], 1),
    (&["kb"], 1000),
    (&["mb"], 1_000_000),
    (&["gb"], 1_000_000_000),
    (&["kib"], 1 << 10),
    (&["mib"], 1 << 20),
    (&["gib"], 1 << 30),
];

impl Unit {
    /// Reads the number in `raw` and converts it to this unit.
    pub(super) fn read(self, raw: &Raw<'_>) -> Result<u64, Wrong> {
        let text = match raw {
            Raw::Number(number) => return Ok(*number),
            Raw::Text(text) if self != Self::One => text.trim(),
            _ => return Err(Wrong::new("is not a number")),
        };
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, name) = text.split_at(digits);
        let name = name.trim().to_ascii_lowercase();
        if name.is_empty() && !number.is_empty() {
            return Err(Wrong::new("is a number in quotes, without a unit").help(format!("write {}", self.usage())));
        }
        let named = |(names, size): &UnitNames| names.contains(&name.as_str()).then_some(*size);
        let size = match self {
            Self::One => None,
            Self::Seconds => TIMES.iter().find_map(named),
            // Units shorter than a day are not accepted.
            Self::Days => TIMES[3..].iter().find_map(named).map(|seconds| seconds / 86_400),
            Self::Octets => SIZES.iter().find_map(named),
        };
        let what = if self == Self::Octets { "size" } else { "time" };
        let wrong = || Wrong::new(format!("{text:?} is not a valid {what}")).help(format!("write {}", self.usage()));
        let number: u64 = number.parse().map_err(|_| wrong())?;
        number.checked_mul(size.ok_or_else(wrong)?).ok_or_else(wrong)
    }

    /// The name of the unit; `None` for plain numbers.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::One => None,
            Self::Seconds => Some("seconds"),
            Self::Days => Some("days"),
            Self::Octets => Some("octets"),
        }
    }

    /// How to write a number in this unit.
    pub(super) fn usage(self) -> &'static str {
        match self {
            Self::One => "a whole number",
            Self::Seconds => "whole seconds, such as 60, or a number with a unit: \"90s\", \"10m\", \"2h\"",
            Self::Days => "whole days, such as 14, or a number with a unit: \"14d\", \"2 weeks\"",
            Self::Octets => "octets, such as 10000000, or a number with a unit: \"10 MB\", \"4 MiB\"",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units() {
        for (unit, text, expected) in [
            (Unit::Seconds, "90s", Some(90)),
            (Unit::Seconds, "10m", Some(600)),
            (Unit::Seconds, " 2 Hours ", Some(7200)),
            (Unit::Seconds, "1w", Some(604_800)),
            (Unit::Days, "14 days", Some(14)),
            (Unit::Days, "2w", Some(14)),
            (Unit::Days, "48h", None),
            (Unit::Octets, "10 MB", Some(10_000_000)),
            (Unit::Octets, "4MiB", Some(4 << 20)),
            (Unit::Octets, "999999999999 GB", None),
            (Unit::Octets, "10 m", None),
            (Unit::Seconds, "10", None),
            (Unit::Seconds, "1.5h", None),
            (Unit::Seconds, "-1s", None),
            (Unit::Seconds, "", None),
            (Unit::One, "5", None),
        ] {
            assert_eq!(unit.read(&Raw::Text(text)).ok(), expected, "{text}");
        }
        assert_eq!(Unit::One.read(&Raw::Number(5)), Ok(5));
    }
}
