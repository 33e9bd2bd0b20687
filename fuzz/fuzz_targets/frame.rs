//! Lines come out as they went in, wherever the octets were cut, and no more is held than was received.
#![no_main]

use libfuzzer_sys::fuzz_target;
use popgate::imap::frame::Frame;

fuzz_target!(|input: (&[u8], Vec<u8>, u32)| {
    let (octets, cuts, unwanted) = input;
    let whole = lines(octets, &[], unwanted);
    let cut_up = lines(octets, &cuts, unwanted);
    assert_eq!(whole, cut_up);
});

/// The lines of `octets`, which come in pieces behind an unwanted literal; `None` after an error.
fn lines(octets: &[u8], cuts: &[u8], unwanted: u32) -> Option<Vec<Vec<u8>>> {
    let mut frame = Frame::default();
    frame.skip_literal((unwanted % 4096).into()).ok()?;
    let (mut lines, mut rest) = (Vec::new(), octets);
    for cut in cuts.iter().map(|&cut| usize::from(cut)).chain([octets.len()]) {
        let (piece, after) = rest.split_at(cut.min(rest.len()));
        rest = after;
        frame.space().extend_from_slice(piece);
        while let Some(span) = frame.line().ok()? {
            assert!(span.line <= span.total && span.total <= frame.octets().len());
            lines.push(frame.octets()[..span.line].to_vec());
            frame.consume(span.total);
        }
        assert!(frame.octets().len() <= octets.len());
    }
    Some(lines)
}
