//! Whole sessions of a hostile server: whatever it sends, and wherever that is cut, the reader neither panics nor holds more
//! than it was sent, and what it hears comes to an end.
#![no_main]

use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};
use popgate::imap::{
    CommandId,
    frame::Frame,
    reader::{Event, Expect, Reader},
};

#[derive(Arbitrary, Debug)]
struct Session<'a> {
    /// Commands that are in flight when the octets come, as many as there are pieces.
    pieces: Vec<&'a [u8]>,
    exists: u16,
    content: bool,
    list: bool,
    after_bye: bool,
    flags: bool,
    /// How many octets of a content are taken at a time; 0: none.
    step: u8,
}

fuzz_target!(|session: Session<'_>| {
    let mut reader = Reader::default();
    let mut frame = Frame::default();
    reader.news().exists = session.exists.into();
    let mut sent = 0;
    let mut events = 0;
    for (id, piece) in (1..).zip(&session.pieces) {
        reader.expect_completion(CommandId(id), format!("P{id}"));
        reader.expect(Expect {
            content: session.content,
            data: session.list.then_some("LIST"),
            after_bye: session.after_bye,
            flags: session.flags,
            status: false,
        });
        frame.space().extend_from_slice(piece);
        sent += piece.len();
        loop {
            match reader.next(&mut frame) {
                Err(_) => return,
                Ok(None) => break,
                Ok(Some(Event::Content { octets, .. })) => {
                    assert_eq!(reader.left(), octets.unwrap_or(0));
                    take(&mut reader, &mut frame, session.step.into());
                }
                Ok(Some(Event::Data(data))) => assert!(data.len() <= sent),
                Ok(Some(_)) => {}
            }
            events += 1;
            assert!(events <= sent + 1, "more events than octets");
        }
        assert!(frame.octets().len() <= sent);
        let _ = reader.has_ended_early(&frame);
    }
    assert!(reader.news().vanished.len() <= sent);
});

fn take(reader: &mut Reader, frame: &mut Frame, step: usize) {
    while step > 0 {
        let here = reader.content(frame).len().min(step);
        if here == 0 {
            break;
        }
        assert_eq!(reader.take(frame, here).len(), here);
        reader.needs_content(frame);
    }
}
