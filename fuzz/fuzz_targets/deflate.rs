//! Any octets inflate or fail, a bounded piece at a time.
#![no_main]

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use popgate::imap::deflate::Deflate;
use tokio::io::{AsyncRead, ReadBuf};

/// What one input may inflate to here: a bomb is let go on for as long as it is useful to look at.
const MOST: usize = 1 << 22;

fuzz_target!(|input: (&[u8], u16)| {
    let (octets, room) = input;
    let mut deflate = Deflate::new(Box::new(tokio::io::empty()), BytesMut::from(octets));
    let mut room = vec![0; usize::from(room).max(1)];
    let mut total = 0;
    while total < MOST {
        let mut out = ReadBuf::new(&mut room);
        match Pin::new(&mut deflate).poll_read(&mut Context::from_waker(Waker::noop()), &mut out) {
            Poll::Ready(Ok(())) if out.filled().is_empty() => break,
            Poll::Ready(Ok(())) => total += out.filled().len(),
            Poll::Ready(Err(_)) => break,
            Poll::Pending => unreachable!("an empty source never waits"),
        }
    }
});
