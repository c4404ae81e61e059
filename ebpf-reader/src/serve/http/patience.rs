//! A stream whose other side has to take what is written: one that does not for a while is cut off.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long a write may make no progress.
const STALLED: Duration = Duration::from_secs(20);
/// How long one answer may take to be written, whatever the progress.
const SLOWEST: Duration = Duration::from_secs(300);

/// The stream.
pub(super) struct Patient<S> {
    stream: S,
    /// Since when nothing could be written, and until when this is endured.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Since when the other side lags behind, with pauses shorter than [`STALLED`].
    lagging: Option<Instant>,
    stall: Duration,
    slowest: Duration,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S) -> Self {
        Self::with(stream, STALLED, SLOWEST)
    }

    fn with(stream: S, stall: Duration, slowest: Duration) -> Self {
        Self {
            stream,
            stalled: None,
            lagging: None,
            stall,
            slowest,
        }
    }

    /// What a write or flush came to: an error if it has been waiting for too long.
    fn endure<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let now = Instant::now();
        let since = *self.lagging.get_or_insert(now);
        let stall = self
            .stall
            .min((since + self.slowest).saturating_duration_since(now));
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(stall)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            // A new request: a new answer.
            self.lagging = None;
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.endure(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.endure(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.endure(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.endure(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test);
    }

    #[test]
    fn a_side_that_does_not_read_is_cut_off() {
        run(async {
            let (ours, _theirs) = duplex(100);
            let mut stream = Patient::with(ours, Duration::from_millis(50), Duration::MAX / 4);
            let error = stream.write_all(&[0; 1000]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn a_side_that_reads_drop_by_drop_is_cut_off_later() {
        run(async {
            let (ours, mut theirs) = duplex(10);
            tokio::spawn(async move {
                let mut one = [0; 1];
                while theirs.read_exact(&mut one).await.is_ok() {
                    sleep(Duration::from_millis(5)).await;
                }
            });
            let begin = Instant::now();
            let mut stream =
                Patient::with(ours, Duration::from_secs(60), Duration::from_millis(200));
            let error = stream.write_all(&[0; 1_000_000]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(begin.elapsed() >= Duration::from_millis(200));
        });
    }

    #[test]
    fn a_side_that_reads_gets_everything() {
        run(async {
            let (ours, mut theirs) = duplex(10);
            let reader = tokio::spawn(async move {
                let mut all = Vec::new();
                theirs.read_to_end(&mut all).await.unwrap();
                all.len()
            });
            let mut stream = Patient::with(ours, Duration::from_secs(60), Duration::from_secs(60));
            stream.write_all(&[0; 10_000]).await.unwrap();
            drop(stream);
            assert_eq!(reader.await.unwrap(), 10_000);
        });
    }
}
