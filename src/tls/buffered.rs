//! A read buffer under rustls: rustls reads 4 KB at a time, and without the buffer each read would be a system call.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::types::Spoken;

/// How many octets to read at once while mail flows.
const WINDOW: usize = 64 * 1024;
/// If a read brings this many octets, it is mail or a long listing, and more will follow.
const MUCH: usize = 4 * 1024;

/// Reads a [`WINDOW`] at a time while much data comes, and holds no memory while no data comes.
#[derive(Debug)]
pub struct Buffered<S> {
    stream: S,
    /// Octets received, but not yet read by rustls.
    received: BytesMut,
    /// How many octets the last read brought.
    last: usize,
    /// The first octets of the connection, and how many of them have come.
    head: ([u8; Spoken::HEAD], usize),
}

impl<S> Buffered<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            received: BytesMut::new(),
            last: 0,
            head: ([0; Spoken::HEAD], 0),
        }
    }

    /// The protocol that the other side speaks, recognized by its first octets.
    pub(super) fn spoken(&self) -> Spoken {
        let (head, count) = &self.head;
        Spoken::of(&head[..*count])
    }

    fn note_head(&mut self, came: &[u8]) {
        let (head, count) = &mut self.head;
        for &octet in came.iter().take(head.len() - *count) {
            head[*count] = octet;
            *count += 1;
        }
    }

    /// The stream that this one reads from.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Buffered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.received.is_empty() {
            if this.last < MUCH {
                let before = out.filled().len();
                ready!(Pin::new(&mut this.stream).poll_read(cx, out))?;
                this.last = out.filled().len() - before;
                // The first octets of a connection always come this way.
                this.note_head(&out.filled()[before..]);
                return Poll::Ready(Ok(()));
            }
            this.received.reserve(WINDOW);
            match tokio_util::io::poll_read_buf(Pin::new(&mut this.stream), cx, &mut this.received) {
                Poll::Ready(read) => this.last = read?,
                Poll::Pending => {
                    this.received = BytesMut::new();
                    return Poll::Pending;
                }
            }
        }
        let count = this.received.len().min(out.remaining());
        out.put_slice(&this.received[..count]);
        this.received.advance(count);
        // After a full window, more data is waiting. Otherwise the next read may be far off, so the memory is freed.
        if this.received.is_empty() && this.last < WINDOW {
            this.received = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Buffered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, task::Waker};

    use proptest::prelude::*;

    use super::*;

    /// Returns these octets, at most one piece for each read. At an empty piece the reader has to wait.
    #[derive(Default)]
    struct Script {
        pieces: VecDeque<Vec<u8>>,
        /// How many octets each read asked for.
        asked: Vec<usize>,
    }

    impl AsyncRead for Script {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            self.asked.push(out.remaining());
            let Some(mut piece) = self.pieces.pop_front() else {
                return Poll::Ready(Ok(()));
            };
            if piece.is_empty() {
                return Poll::Pending;
            }
            let rest = piece.split_off(piece.len().min(out.remaining()));
            out.put_slice(&piece);
            if !rest.is_empty() {
                self.pieces.push_front(rest);
            }
            Poll::Ready(Ok(()))
        }
    }

    fn reader(pieces: &[usize]) -> Buffered<Script> {
        let octets = (0_u8..=250).cycle();
        let mut begun = 0;
        let pieces = pieces.iter().map(|&length| {
            let piece = octets.clone().skip(begun % 251).take(length).collect();
            begun += length;
            piece
        });
        Buffered::new(Script {
            pieces: pieces.collect(),
            asked: Vec::new(),
        })
    }

    /// Reads up to `room` octets; `None` if there are none yet.
    fn read(reader: &mut Buffered<Script>, room: usize) -> Option<Vec<u8>> {
        let mut octets = vec![0; room];
        let mut out = ReadBuf::new(&mut octets);
        let mut nobody = Context::from_waker(Waker::noop());
        match Pin::new(reader).poll_read(&mut nobody, &mut out) {
            Poll::Ready(read) => {
                read.unwrap();
                Some(out.filled().to_vec())
            }
            Poll::Pending => None,
        }
    }

    #[test]
    fn short_answers_pass_through_without_a_buffer() {
        let mut reader = reader(&[100, 0, 200, 0]);
        for expected in [Some(100), None, Some(200), None] {
            assert_eq!(read(&mut reader, 4096).map(|octets| octets.len()), expected);
            assert_eq!(reader.received.capacity(), 0);
        }
        assert_eq!(reader.stream.asked, [4096; 4]);
    }

    #[test]
    fn mail_is_read_by_windows_and_nothing_is_kept_after_it() {
        let mut reader = reader(&[4096, 2 * WINDOW, 10_000, 0, 50, 0]);
        assert_eq!(read(&mut reader, 4096).unwrap().len(), 4096);
        let mut left = 2 * WINDOW + 10_000;
        while left > 0 {
            left -= read(&mut reader, 4096).unwrap().len();
        }
        assert!(reader.stream.asked[1..].iter().all(|&asked| asked >= WINDOW));
        assert_eq!(reader.stream.asked.len(), 4);
        assert_eq!(reader.received.capacity(), 0, "the stream has been drained");
        assert_eq!(read(&mut reader, 4096), None);
        assert_eq!(reader.received.capacity(), 0, "the stream is waited for");
        assert_eq!(read(&mut reader, 4096).unwrap().len(), 50);
        assert_eq!(read(&mut reader, 4096), None);
        assert_eq!(reader.received.capacity(), 0);
        assert_eq!(*reader.stream.asked.last().unwrap(), 4096, "answers are short again");
        assert!(read(&mut reader, 4096).unwrap().is_empty(), "the end");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn octets_come_in_order(
            pieces in prop::collection::vec(prop_oneof![0_usize..3, 4000_usize..5000, 60_000_usize..140_000], 0..8),
            room in 1_usize..20_000,
        ) {
            let mut reader = reader(&pieces);
            let mut came = Vec::new();
            let mut waits = 0;
            loop {
                match read(&mut reader, room) {
                    Some(octets) if octets.is_empty() => break,
                    Some(octets) => came.extend(octets),
                    None => waits += 1,
                }
            }
            let expected: Vec<u8> = (0..=250).cycle().take(pieces.iter().sum()).collect();
            prop_assert!(came == expected);
            prop_assert_eq!(waits, pieces.iter().filter(|&&length| length == 0).count());
        }
    }
}
