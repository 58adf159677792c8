//! Which admin API to talk to, and as whom.

use std::{fs, path::PathBuf, time::Duration};

use clap::Args;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    addresses::Addresses,
    agent::Failure,
    process::{ADMIN_KEY, data_dir},
};

/// A person waits.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// What every command of an admin is told.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct AdminArgs {
    #[command(flatten)]
    pub(super) access: Access,
    /// Print the API's answers as JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// Where the admin API is: that of the farebox that runs here, or the one that is named.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Access {
    /// Admin API to talk to; without it, that of the farebox that runs here
    #[arg(long, global = true, value_name = "URL", env = "FAREBOX_GRPC", help_heading = "Connection")]
    grpc: Option<String>,
    /// File with the key to come with; without it, FAREBOX_ADMIN_KEY or that of the farebox that runs here
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    admin_key: Option<PathBuf>,
    /// Data directory of the farebox that runs here [default: $XDG_DATA_HOME/farebox]
    #[arg(long, global = true, value_name = "DIR", env = "FAREBOX_DATA", help_heading = "Connection")]
    data: Option<PathBuf>,
    /// File with the certificate authority of the server
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    ca: Option<PathBuf>,
    /// File with a client certificate
    #[arg(long, global = true, value_name = "FILE", requires = "cert_key", help_heading = "Connection")]
    cert: Option<PathBuf>,
    /// File with its key
    #[arg(long, global = true, value_name = "FILE", requires = "cert", help_heading = "Connection")]
    cert_key: Option<PathBuf>,
}

/// Says who is asking.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A connection that says who is asking.
pub(crate) type Road = InterceptedService<Channel, Bearer>;

impl Access {
    pub(crate) async fn connect(&self) -> Result<Road, Failure> {
        let url = match &self.grpc {
            Some(url) => url.clone(),
            None => self.discover()?,
        };
        let mut bearer: MetadataValue<Ascii> = format!("Bearer {}", self.key()?)
            .parse()
            .map_err(|_| Failure::Usage("the admin key has characters that no key has".to_owned()))?;
        bearer.set_sensitive(true);
        let wrong = |reason: String| {
            Failure::Usage(format!(
                "`{url}` is not the address of an admin API ({reason}): write it like http://host:4001"
            ))
        };
        let mut endpoint = Endpoint::from_shared(url.clone())
            .map_err(|error| wrong(error.to_string()))?
            .connect_timeout(CONNECT_PATIENCE);
        if let Some(tls) = self.tls(&url)? {
            endpoint = endpoint.tls_config(tls).map_err(|error| wrong(error.to_string()))?;
        }
        let channel = endpoint.connect().await.map_err(|error| {
            let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Failure::Connect(format!("no admin API answers at {url} ({cause}): start `farebox up`, or check --grpc"))
        })?;
        Ok(InterceptedService::new(channel, Bearer(bearer)))
    }

    fn tls(&self, url: &str) -> Result<Option<ClientTlsConfig>, Failure> {
        if !url.starts_with("https://") {
            return Ok(None);
        }
        let mut tls = match &self.ca {
            Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?)),
            None => ClientTlsConfig::new().with_enabled_roots(),
        };
        if let (Some(cert), Some(key)) = (&self.cert, &self.cert_key) {
            tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        Ok(Some(tls))
    }

    fn discover(&self) -> Result<String, Failure> {
        let dir = self.dir()?;
        let here = Addresses::read(&dir)
            .map_err(|error| Failure::Connect(format!("{error}, or name an admin API with --grpc")))?;
        let address = here.grpc.ok_or_else(|| {
            let shown = Addresses::file(&dir);
            let shown = shown.display();
            Failure::Connect(format!(
                "no admin API is known here ({shown} names none): where `farebox admin` runs by itself, give the address \
                 that it says in its log, like --grpc http://127.0.0.1:4001"
            ))
        })?;
        Ok(if address.contains("://") { address } else { format!("http://{address}") })
    }

    fn key(&self) -> Result<String, Failure> {
        if let Some(file) = &self.admin_key {
            return Ok(String::from_utf8_lossy(&read(file)?).trim().to_owned());
        }
        if let Ok(key) = std::env::var("FAREBOX_ADMIN_KEY") {
            return Ok(key.trim().to_owned());
        }
        let file = self.dir()?.join(ADMIN_KEY);
        fs::read_to_string(&file).map(|text| text.trim().to_owned()).map_err(|error| {
            Failure::Usage(format!(
                "no admin key is known ({}: {error}): give one with --admin-key FILE or FAREBOX_ADMIN_KEY",
                file.display()
            ))
        })
    }

    fn dir(&self) -> Result<PathBuf, Failure> {
        data_dir(self.data.as_deref()).map_err(|error| Failure::Usage(error.to_string()))
    }
}

fn read(file: &PathBuf) -> Result<Vec<u8>, Failure> {
    fs::read(file).map_err(|error| Failure::Usage(format!("{} cannot be read: {error}", file.display())))
}

/// A request that is not waited for longer than a person would.
pub(crate) fn patient<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ANSWER_PATIENCE);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_api_is_found_or_its_address_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let access = Access { data: Some(dir.path().to_owned()), ..Access::default() };
        let refused = || match access.discover() {
            Err(Failure::Connect(said)) => said,
            other => panic!("{:?}", other.ok()),
        };
        let file = Addresses::file(dir.path());
        let servers = r#""nats": "nats://127.0.0.1:4222", "clickhouse": "http://127.0.0.1:8123", "pids": {}"#;
        assert!(refused().contains("start `farebox up`, or name an admin API with --grpc"), "{}", refused());
        fs::write(&file, format!("{{ {servers} }}")).unwrap();
        assert!(
            refused().contains("`farebox admin` runs by itself") && refused().contains("--grpc http://"),
            "{}",
            refused()
        );
        fs::write(&file, format!(r#"{{ {servers}, "grpc": "https://127.0.0.1:7" }}"#)).unwrap();
        assert_eq!(access.discover().ok().as_deref(), Some("https://127.0.0.1:7"));
    }
}
