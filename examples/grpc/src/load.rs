//! Load: calls of each kind, one after the other, each of a trace of its own.

use std::error::Error;
use std::net::SocketAddr;

use tokio_stream::StreamExt as _;

use crate::service::fibonacci::Index;
use crate::service::fibonacci::fibonacci_client::FibonacciClient;

/// Rounds of calls.
const ROUNDS: usize = 2;

/// Calls each method of the server at `address` some times.
pub(crate) async fn drive(address: SocketAddr) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut client = FibonacciClient::connect(format!("http://{address}")).await?;
    let two = || tokio_stream::iter([Index { n: 37 }, Index { n: 38 }]);
    for _ in 0..ROUNDS {
        client.number(Index { n: 39 }).await?;
        let mut sequence = client.sequence(Index { n: 37 }).await?.into_inner();
        while sequence.try_next().await?.is_some() {}
        client.sum(two()).await?;
        let mut numbers = client.numbers(two()).await?.into_inner();
        while numbers.try_next().await?.is_some() {}
    }
    Ok(())
}
