//! What a client makes of a stream, with a farebox that the test plays.

use farebox_bus::{Bus, Headers, Options};
use farebox_client::{Client, Piece};
use farebox_proto::{headers, subjects::agent, v1};
use farebox_testkit::{PATIENCE, TestNats};
use farebox_types::{Clock as _, SystemClock};
use prost::Message as _;
use tokio::time::timeout;

#[tokio::test]
async fn what_comes_after_the_final_answer_is_ignored() {
    let nats = TestNats::start().await.unwrap();
    let options = Options { url: nats.url(), ..Options::default() };
    let farebox = Bus::connect(&options).await.unwrap();
    let client = Client::over(Bus::connect(&options).await.unwrap());
    let mut requests = farebox.subscribe(agent::REQUEST, None).await.unwrap();
    farebox.flush().await.unwrap();
    let deadline_unix_ms = SystemClock.now().after(PATIENCE).millis();
    let request = v1::LlmRequest { deadline_unix_ms, ..v1::LlmRequest::default() };
    let mut stream = client.stream(request).await.unwrap();

    let to = timeout(PATIENCE, requests.next()).await.unwrap().unwrap().reply.unwrap();
    for (number, name) in [(0, "chunk"), (1, "final"), (1, "chunk"), (2, "final")] {
        let payload = match name {
            "chunk" => v1::LlmChunk { seq: number, ..v1::LlmChunk::default() }.encode_to_vec(),
            _ => v1::LlmResponse { chunks: number, ..v1::LlmResponse::default() }.encode_to_vec(),
        };
        farebox.publish(&to, Headers::new().with(headers::TYPE, name), payload.into()).await.unwrap();
    }
    assert!(matches!(stream.next().await, Some(Ok(Piece::Chunk(chunk))) if chunk.seq == 0));
    assert!(matches!(stream.next().await, Some(Ok(Piece::Final(answer))) if answer.chunks == 1));
    for _ in 0..3 {
        assert!(stream.next().await.is_none());
    }
}
