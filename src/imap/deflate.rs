//! The compression layer that COMPRESS DEFLATE starts (RFC 4978): raw DEFLATE (RFC 1951) both ways.
//!
//! What the server sends is inflated. What is sent to the server is a few short commands, which are not worth the
//! hundreds of kilobytes that a compressor takes: they are sent as stored blocks, which every inflater accepts.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::io::Io;

/// How many compressed octets are read at once.
const INPUT: usize = 8 * 1024;
/// How many octets are inflated at once, at most. The room for them is zeroed first, so it should not be much larger
/// than what `INPUT` yields.
const OUTPUT: usize = 32 * 1024;
/// How many octets go into one stored block, at most. RFC 1951 §3.2.4 allows 65535; this also bounds what is held.
const BLOCK: usize = 4 * 1024;

/// A compressed connection. It takes about 50 KB of memory: DEFLATE's window of 32 KB, tables, and the input.
pub struct Deflate {
    io: Box<dyn Io>,
    inflater: Decompress,
    /// Received and not yet inflated.
    input: BytesMut,
    /// The server has sent the final block: nothing follows it.
    ended: bool,
    /// Blocks that were not yet sent.
    outgoing: BytesMut,
}

impl Deflate {
    /// Compression on top of `io`. `input`: the octets of the compressed stream that have been received already.
    pub fn new(io: Box<dyn Io>, input: BytesMut) -> Self {
        Self {
            io,
            inflater: Decompress::new(false),
            input,
            ended: false,
            outgoing: BytesMut::new(),
        }
    }

    /// Inflates what the input and the inflater hold into `out`. Returns whether any octets came out.
    fn inflate(&mut self, out: &mut ReadBuf<'_>) -> io::Result<bool> {
        while !self.ended {
            let room = out.initialize_unfilled_to(out.remaining().min(OUTPUT));
            let (taken, given) = (self.inflater.total_in(), self.inflater.total_out());
            let status = self
                .inflater
                .decompress(&self.input, room, FlushDecompress::None)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            // Neither difference is larger than the length of its slice.
            let taken = (self.inflater.total_in() - taken) as usize;
            let given = (self.inflater.total_out() - given) as usize;
            self.input.advance(taken);
            out.advance(given);
            self.ended = status == Status::StreamEnd;
            if given > 0 {
                return Ok(true);
            }
            // A block's header or a flush yields no octets, but what follows it may.
            if taken == 0 {
                break;
            }
        }
        Ok(false)
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.outgoing))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.outgoing.advance(count),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Io for Deflate {
    fn set_reset_on_close(&self, reset: bool) {
        self.io.set_reset_on_close(reset);
    }
}

impl AsyncRead for Deflate {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        // The inflater comes first: it may hold more than the last caller had room for.
        while !this.inflate(out)? && !this.ended {
            this.input.reserve(INPUT);
            if ready!(tokio_util::io::poll_read_buf(
                Pin::new(&mut this.io),
                cx,
                &mut this.input
            ))? == 0
            {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Deflate {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_drain(cx))?;
        let count = octets.len().min(BLOCK);
        if count > 0 {
            // RFC 1951 §3.2.4: "not final", "stored" and the padding in one octet; then LEN, its complement, and the
            // data.
            let length = count as u16;
            self.outgoing.extend_from_slice(&[0]);
            self.outgoing.extend_from_slice(&length.to_le_bytes());
            self.outgoing.extend_from_slice(&(!length).to_le_bytes());
            self.outgoing.extend_from_slice(&octets[..count]);
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use flate2::{Compress, Compression, FlushCompress};
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn pair(room: usize) -> (Deflate, DuplexStream) {
        let (near, far) = duplex(room);
        (Deflate::new(Box::new(near), BytesMut::new()), far)
    }

    /// What a server sends that flushes after each of `parts`.
    fn compressed(parts: &[&[u8]], flush: FlushCompress) -> Vec<u8> {
        let mut compressor = Compress::new(Compression::default(), false);
        let mut out = Vec::new();
        for part in parts {
            out.reserve(2 * part.len() + 64);
            let before = compressor.total_in();
            compressor.compress_vec(part, &mut out, flush).unwrap();
            assert_eq!(compressor.total_in() - before, part.len() as u64);
            assert!(out.len() < out.capacity(), "the flush is complete");
        }
        out
    }

    /// Text that compresses, with stretches that don't.
    fn sample(octets: usize) -> Vec<u8> {
        let mut seed = 1u32;
        (0..octets)
            .map(|at| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if (at / 5000) % 3 == 2 {
                    (seed >> 24) as u8
                } else {
                    b"Subject: some words\r\n"[at % 21]
                }
            })
            .collect()
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(work)
    }

    #[tokio::test]
    async fn every_flushed_answer_arrives_without_more_input() {
        let (mut deflate, mut server) = pair(1 << 20);
        let mut compressor = Compress::new(Compression::default(), false);
        for answer in [
            "* 3 EXISTS\r\n".to_owned(),
            "* 1 FETCH (UID 1)\r\n".repeat(9000),
            "a OK\r\n".into(),
        ] {
            let mut out = Vec::with_capacity(answer.len() + 64);
            compressor
                .compress_vec(answer.as_bytes(), &mut out, FlushCompress::Sync)
                .unwrap();
            server.write_all(&out).await.unwrap();
            let mut got = vec![0; answer.len()];
            deflate.read_exact(&mut got).await.unwrap();
            assert_eq!(got, answer.as_bytes());
        }
    }

    #[tokio::test]
    async fn what_came_with_the_ok_is_inflated_first() {
        let all = compressed(&[b"* 1 EXISTS\r\n", b"* BYE\r\n"], FlushCompress::Sync);
        for split in 0..=all.len() {
            let (near, mut server) = duplex(1024);
            let mut deflate = Deflate::new(Box::new(near), BytesMut::from(&all[..split]));
            server.write_all(&all[split..]).await.unwrap();
            drop(server);
            let mut got = Vec::new();
            deflate.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, b"* 1 EXISTS\r\n* BYE\r\n");
        }
    }

    #[tokio::test]
    async fn an_octet_at_a_time() {
        let text = sample(20_000);
        let all = compressed(&[&text], FlushCompress::Sync);
        let (mut deflate, mut server) = pair(1);
        let (_, got) = tokio::join!(
            async {
                server.write_all(&all).await.unwrap();
                server.shutdown().await.unwrap();
            },
            async {
                let mut got = Vec::new();
                while let Ok(octet) = deflate.read_u8().await {
                    got.push(octet);
                }
                got
            }
        );
        assert!(got == text);
    }

    #[tokio::test]
    async fn empty_flushes_are_no_end() {
        let mut all = compressed(&[b"a"], FlushCompress::Sync);
        // Empty stored blocks, which a flush leaves.
        all.extend([0, 0, 0, 0xff, 0xff].repeat(10_000));
        all.extend([0, 1, 0, 0xfe, 0xff, b'b']);
        let (mut deflate, mut server) = pair(100_000);
        server.write_all(&all).await.unwrap();
        assert_eq!(deflate.read_u8().await.unwrap(), b'a');
        assert_eq!(deflate.read_u8().await.unwrap(), b'b');
    }

    #[tokio::test]
    async fn the_final_block_is_the_end() {
        let (mut deflate, mut server) = pair(1024);
        let mut all = compressed(&[b"* BYE\r\n"], FlushCompress::Finish);
        all.extend(b"more");
        server.write_all(&all).await.unwrap();
        let mut got = Vec::new();
        deflate.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"* BYE\r\n");
        assert_eq!(deflate.read(&mut [0; 9]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn garbage_is_an_error_and_stays_one() {
        // A block type that does not exist; a wrong NLEN.
        for garbage in [&[0x06; 9][..], &[0, 1, 0, 1, 0, b'x']] {
            let (mut deflate, mut server) = pair(1024);
            server.write_all(garbage).await.unwrap();
            for _ in 0..2 {
                let error = deflate.read(&mut [0; 99]).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidData, "{garbage:?}");
            }
        }
    }

    #[tokio::test]
    async fn output_is_bounded_by_the_callers_room() {
        let zeros = vec![0; 30_000_000];
        let bomb = compressed(&[&zeros], FlushCompress::Sync);
        assert!(bomb.len() < 40_000);
        let (mut deflate, mut server) = pair(40_000);
        server.write_all(&bomb).await.unwrap();
        drop(server);
        let (mut room, mut total) = (vec![1; 100_000], 0);
        loop {
            let count = deflate.read(&mut room).await.unwrap();
            assert!(count <= OUTPUT && deflate.input.capacity() <= 2 * INPUT);
            if count == 0 {
                break;
            }
            assert!(room[..count].iter().all(|&octet| octet == 0));
            total += count;
        }
        assert_eq!(total, zeros.len());
    }

    #[tokio::test]
    async fn a_command_leaves_only_by_flush_and_whole() {
        let (mut deflate, mut server) = pair(3);
        let command = b"a UID FETCH 1:* (UID)\r\n";
        assert_eq!(deflate.write(command).await.unwrap(), command.len());
        let mut sent = vec![0; 5 + command.len()];
        let (flushed, read) = tokio::join!(deflate.flush(), server.read_exact(&mut sent));
        flushed.unwrap();
        read.unwrap();
        assert_eq!(sent[..5], [0, 23, 0, 0xff - 23, 0xff]);
        assert_eq!(&sent[5..], command);
    }

    #[tokio::test]
    async fn a_reader_that_left_is_an_error() {
        let (mut deflate, server) = pair(3);
        drop(server);
        deflate.write_all(b"a NOOP\r\n").await.unwrap();
        assert_eq!(deflate.flush().await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    proptest! {
        #[test]
        fn any_split_inflates_to_the_same(
            octets in 0usize..150_000,
            flush_at in proptest::collection::vec(0usize..150_000, 0..6),
            room in 1usize..9000,
            reads in proptest::collection::vec(1usize..70_000, 1..8),
        ) {
            let text = sample(octets);
            let mut ends: Vec<_> = flush_at.into_iter().map(|at| at.min(octets)).chain([0, octets]).collect();
            ends.sort_unstable();
            let parts: Vec<_> = ends.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let all = compressed(&parts, FlushCompress::Sync);
            let (mut deflate, mut server) = pair(room);
            let got = run(async {
                let (_, got) = tokio::join!(
                    async {
                        server.write_all(&all).await.unwrap();
                        server.shutdown().await.unwrap();
                    },
                    async {
                        let mut got = Vec::new();
                        for size in reads.iter().cycle() {
                            let mut room = vec![0; *size];
                            match deflate.read(&mut room).await.unwrap() {
                                0 => break,
                                count => got.extend_from_slice(&room[..count]),
                            }
                        }
                        got
                    }
                );
                got
            });
            prop_assert!(got == text);
        }

        #[test]
        fn any_inflater_takes_what_is_sent(
            sizes in proptest::collection::vec(0usize..20_000, 0..6),
            room in 1usize..9000,
        ) {
            let text = sample(sizes.iter().sum());
            let (mut deflate, mut server) = pair(room);
            let sent = run(async {
                let (_, sent) = tokio::join!(
                    async {
                        let mut rest = &text[..];
                        for size in sizes {
                            let (command, after) = rest.split_at(size);
                            deflate.write_all(command).await.unwrap();
                            deflate.flush().await.unwrap();
                            rest = after;
                        }
                        deflate.shutdown().await.unwrap();
                    },
                    async {
                        let mut sent = Vec::new();
                        server.read_to_end(&mut sent).await.unwrap();
                        sent
                    }
                );
                sent
            });
            let mut got = Vec::with_capacity(text.len() + 1);
            Decompress::new(false).decompress_vec(&sent, &mut got, FlushDecompress::Sync).unwrap();
            prop_assert!(got == text);
        }

        #[test]
        fn octets_from_anyone_neither_panic_nor_spin(octets in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let (near, _) = duplex(1);
            let mut deflate = Deflate::new(Box::new(near), BytesMut::from(&octets[..]));
            let mut got = Vec::new();
            let _ = run(deflate.read_to_end(&mut got));
        }
    }
}
