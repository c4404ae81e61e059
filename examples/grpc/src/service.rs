//! The service: Fibonacci numbers, with a method of each kind.

use std::hint::black_box;
use std::pin::Pin;

use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use fibonacci::fibonacci_server::Fibonacci;
use fibonacci::{Index, Value};

/// The code that is generated from `fibonacci.proto`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
pub(crate) mod fibonacci {
    tonic::include_proto!("fibonacci");
}

/// The largest number that is computed.
const MAX: u32 = 42;

type Values = Pin<Box<dyn Stream<Item = Result<Value, Status>> + Send>>;

#[derive(Debug)]
pub(crate) struct Numbers;

#[tonic::async_trait]
impl Fibonacci for Numbers {
    type SequenceStream = Values;
    type NumbersStream = Values;

    async fn number(&self, request: Request<Index>) -> Result<Response<Value>, Status> {
        Ok(Response::new(value(&request.into_inner())))
    }

    async fn sequence(&self, request: Request<Index>) -> Result<Response<Values>, Status> {
        let numbers = (1..=request.into_inner().n.min(MAX)).map(|n| Ok(value(&Index { n })));
        Ok(Response::new(Box::pin(tokio_stream::iter(numbers))))
    }

    async fn sum(&self, request: Request<Streaming<Index>>) -> Result<Response<Value>, Status> {
        let mut numbers = request.into_inner();
        let mut sum = 0_u64;
        while let Some(index) = numbers.message().await? {
            sum = sum.wrapping_add(value(&index).value);
        }
        Ok(Response::new(Value { value: sum }))
    }

    async fn numbers(
        &self,
        request: Request<Streaming<Index>>,
    ) -> Result<Response<Values>, Status> {
        let numbers = request.into_inner().map(|index| Ok(value(&index?)));
        Ok(Response::new(Box::pin(numbers)))
    }
}

fn value(index: &Index) -> Value {
    Value {
        value: number(index.n.min(MAX)),
    }
}

#[inline(never)]
fn number(n: u32) -> u64 {
    match black_box(n) {
        0 | 1 => u64::from(n),
        n => number(n - 1) + number(n - 2),
    }
}
