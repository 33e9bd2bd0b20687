//! Octets as text.

/// Writes each octet as two hexadecimal digits, in lower case.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_digits_for_each_octet() {
        assert_eq!(hex(&[0, 0x0a, 0xb0, 0xff]), "000ab0ff");
        assert_eq!(hex(&[]), "");
    }
}
