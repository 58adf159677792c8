//! Names within paths.

/// A name as one segment of a path: nothing in it ends the segment, or the path.
pub fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            // Vertex's versions stand behind an `@`.
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_within_its_segment() {
        for (name, expected) in [
            ("claude-sonnet-4@20250514", "claude-sonnet-4@20250514"),
            ("amazon.nova-pro-v1:0", "amazon.nova-pro-v1%3A0"),
            ("../x?y=1#z\\%2e ü", "..%2Fx%3Fy%3D1%23z%5C%252e%20%C3%BC"),
        ] {
            assert_eq!(segment(name), expected);
        }
    }
}
