//! Dates as IMAP writes them (RFC 3501 §9, `date-time`), and as seconds since 1970.

use chrono::DateTime;

/// Parses a date such as ` 7-Feb-1994 21:52:25 -0800`. Times before 1970 count as 1970. `None` if it is not a date.
pub(super) fn seconds(date_time: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(date_time).ok()?.trim();
    let time = DateTime::parse_from_str(text, "%e-%b-%Y %H:%M:%S %z").ok()?;
    Some(u32::try_from(time.timestamp().max(0)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_the_rfc() {
        assert_eq!(seconds(b" 7-Feb-1994 21:52:25 -0800"), Some(760_686_745));
        assert_eq!(seconds(b"07-Feb-1994 21:52:25 -0800"), Some(760_686_745));
        assert_eq!(seconds(b"17-jul-1996 02:44:25 +0000"), Some(837_571_465));
        assert_eq!(seconds(b"01-Jan-1960 00:00:00 +0000"), Some(0));
        assert_eq!(seconds(b"yesterday"), None);
        assert_eq!(seconds(b"\xff"), None);
    }
}
