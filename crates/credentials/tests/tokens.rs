//! Tokens fetched from services that stand in for Google's and Microsoft's.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};

use axum::{Router, extract::State, http::StatusCode, routing::post};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use farebox_credentials::{Aws, Credentials, Entra, EntraApplication, EntraProof, Google};
use farebox_providers::AwsCredentials;
use farebox_types::{ErrorKind, Timestamp};
use http::Request;
use secrecy::SecretString;

const NOW: Timestamp = Timestamp(1_760_000_000_000);

/// A token service: what it was asked, and what it answers.
#[derive(Clone)]
struct Service {
    asked: Arc<Mutex<Vec<String>>>,
    answer: (StatusCode, &'static str),
}

impl Service {
    /// Starts one; the result also has its address.
    async fn start(status: u16, answer: &'static str) -> (Service, String) {
        let service = Service { asked: Arc::default(), answer: (StatusCode::from_u16(status).unwrap(), answer) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let take = async |State(service): State<Service>, body: String| {
            service.asked.lock().unwrap().push(body);
            service.answer
        };
        let router = Router::new()
            .route("/tenant-1/oauth2/v2.0/token", post(take))
            .route("/token", post(take))
            .with_state(service.clone());
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, router).await });
        (service, address)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn request() -> Request<Bytes> {
    Request::post("https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse").body(Bytes::from("{}")).unwrap()
}

fn entra(authority: String, proof: EntraProof) -> Credentials {
    Credentials::Entra(Entra::new(EntraApplication {
        authority,
        tenant_id: "tenant-1".into(),
        client_id: "client-1".into(),
        scope: "https://cognitiveservices.azure.com/.default".into(),
        proof,
    }))
}

#[tokio::test]
async fn an_entra_token_is_fetched_once_and_kept() {
    let (service, address) = Service::start(200, r#"{"access_token":"entra-token","expires_in":3599}"#).await;
    let credentials = entra(address, EntraProof::Secret(SecretString::from("s3cret&1")));
    let all = tokio::join!(
        credentials.authorize(request(), NOW),
        credentials.authorize(request(), NOW),
        credentials.authorize(request(), NOW),
    );
    for authorized in [all.0, all.1, all.2] {
        let value = authorized.unwrap().headers()["authorization"].clone();
        assert_eq!(value, "Bearer entra-token");
        assert!(value.is_sensitive());
    }
    let expected = "grant_type=client_credentials&client_id=client-1&\
                    scope=https%3A%2F%2Fcognitiveservices.azure.com%2F.default&client_secret=s3cret%261";
    assert_eq!(service.asked(), [expected]);
    let later = Timestamp(NOW.millis() + 3_500_000);
    credentials.authorize(request(), later).await.unwrap();
    assert_eq!(service.asked().len(), 2, "it is about to end");
}

#[tokio::test]
async fn a_workload_shows_its_own_token() {
    let (service, address) = Service::start(200, r#"{"access_token":"t","expires_in":3599}"#).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "federated-1\n").unwrap();
    let credentials = entra(address, EntraProof::TokenFile(file.path().to_owned()));
    credentials.authorize(request(), NOW).await.unwrap();
    assert!(service.asked()[0].ends_with("&client_assertion=federated-1"), "{:?}", service.asked());
}

#[tokio::test]
async fn a_refusal_says_why_and_not_the_secret() {
    let answer =
        r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret.\r\nTrace ID: 1"}"#;
    let (_, address) = Service::start(401, answer).await;
    let credentials = entra(address, EntraProof::Secret(SecretString::from("s3cret")));
    let error = credentials.authorize(request(), NOW).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Upstream);
    let said = error.to_string();
    assert!(said.contains("invalid_client: AADSTS7000215: Invalid client secret."), "{said}");
    assert!(!said.contains("s3cret") && !said.contains("Trace"), "{said}");
    assert!(!format!("{credentials:?}").contains("s3cret"));
}

/// A service account with a key made here.
fn service_account(token_uri: &str) -> SecretString {
    let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let der = aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&key).unwrap();
    let text = STANDARD.encode(der.as_ref());
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let (begin, end) = ("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----");
    let pem = format!("{begin}\n{}\n{end}\n", lines.join("\n"));
    let account = serde_json::json!({
        "type": "service_account",
        "project_id": "acme",
        "private_key_id": "k1",
        "private_key": pem,
        "client_email": "farebox@acme.iam.example",
        "client_id": "1",
        "auth_uri": "https://accounts.example/auth",
        "token_uri": format!("{token_uri}/token"),
        "auth_provider_x509_cert_url": "https://accounts.example/certs",
        "client_x509_cert_url": "https://accounts.example/x509",
    });
    SecretString::from(account.to_string())
}

#[tokio::test]
async fn a_service_account_gets_a_google_token() {
    let answer = r#"{"access_token":"google-token","expires_in":3600,"token_type":"Bearer"}"#;
    let (service, address) = Service::start(200, answer).await;
    let credentials = Credentials::Google(Google::new(Some(service_account(&address))));
    for _ in 0..2 {
        let authorized = credentials.authorize(request(), NOW).await.unwrap();
        assert_eq!(authorized.headers()["authorization"], "Bearer google-token");
    }
    let asked = service.asked();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].contains("jwt-bearer") && asked[0].contains("assertion="), "{asked:?}");
}

#[tokio::test]
async fn a_static_amazon_key_signs_without_any_service() {
    let keys = AwsCredentials {
        access_key: "AKIDEXAMPLE".into(),
        secret_key: SecretString::from("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        session_token: Some(SecretString::from("session-1")),
    };
    let credentials = Credentials::Aws(Aws::new("us-east-1".into(), Some(keys), None));
    let signed = credentials.authorize(request(), NOW).await.unwrap();
    let said = signed.headers()["authorization"].to_str().unwrap();
    assert!(
        said.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20251009/us-east-1/bedrock/aws4_request"),
        "{said}"
    );
    assert_eq!(signed.headers()["x-amz-security-token"], "session-1");
    assert!(!format!("{credentials:?}").contains("wJalr"));
}
