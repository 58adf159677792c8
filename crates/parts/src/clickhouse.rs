//! A ClickHouse process: a `clickhouse server` from the PATH, or the library served by a launcher process.

use std::{
    ffi::OsString,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

use crate::{Child, ChildSpec, Exit, Limits, PartsError, nats::died, net};

const SERVER: &str = "ClickHouse";
const POLL: Duration = Duration::from_millis(20);
/// Names the data folder of the server that answers: two servers never share one.
const WHERE_QUERY: &str = "/?query=SELECT%20path%20FROM%20system.disks%20WHERE%20name%3D%27default%27";

/// What there is of ClickHouse on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClickHouseEngine {
    /// The `clickhouse` program.
    Program(PathBuf),
    /// `libchdb.so`, which holds the same server but needs a process to live in.
    Library(PathBuf),
}

/// The command that calls [`serve_chdb`](crate::serve_chdb). It is given `--lib FILE --path DIR --http-port PORT`
/// and, where wanted, `--tcp-port PORT`; its standard input is a pipe that closes when the parent is gone.
#[derive(Clone, Debug)]
pub struct Launcher {
    pub program: PathBuf,
    pub args: Vec<OsString>,
}

#[derive(Clone, Debug)]
pub struct ClickHouseOptions {
    pub engine: ClickHouseEngine,
    pub launcher: Launcher,
    pub data_dir: PathBuf,
    /// 0: any free one.
    pub http_port: u16,
    /// The native protocol: `None` for no such port, 0 for any free one.
    pub tcp_port: Option<u16>,
    pub log: PathBuf,
    pub limits: Limits,
}

impl ClickHouseOptions {
    pub fn new(
        engine: ClickHouseEngine,
        launcher: Launcher,
        data_dir: impl Into<PathBuf>,
        log: impl Into<PathBuf>,
    ) -> ClickHouseOptions {
        ClickHouseOptions {
            engine,
            launcher,
            data_dir: data_dir.into(),
            http_port: 0,
            tcp_port: None,
            log: log.into(),
            limits: Limits::default(),
        }
    }
}

/// A running ClickHouse that answers over HTTP, without a password, on the loopback address only. Dropping it kills
/// the server.
#[derive(Debug)]
pub struct ClickHouse {
    child: Child,
    http: SocketAddr,
    tcp: Option<SocketAddr>,
    limits: Limits,
}

#[derive(Clone, Copy)]
struct Ports {
    http: u16,
    tcp: Option<u16>,
}

impl ClickHouse {
    pub async fn start(options: ClickHouseOptions) -> Result<ClickHouse, PartsError> {
        fs::create_dir_all(&options.data_dir).map_err(PartsError::file("create the directory", &options.data_dir))?;
        let data_dir =
            fs::canonicalize(&options.data_dir).map_err(PartsError::file("find the directory", &options.data_dir))?;
        let options = ClickHouseOptions { data_dir, ..options };
        for wanted in [options.http_port, options.tcp_port.unwrap_or(0)] {
            if wanted != 0 && net::is_taken(wanted) {
                let detail = format!("127.0.0.1:{wanted}");
                return Err(PartsError::PortTaken { server: SERVER, detail });
            }
        }
        let mut attempt = 1;
        loop {
            // ClickHouse cannot choose a port itself, so a free one may be gone when it gets there.
            let ports = Ports { http: chosen(options.http_port)?, tcp: options.tcp_port.map(chosen).transpose()? };
            match start_on(&options, ports).await {
                Err(PartsError::Died { .. } | PartsError::PortTaken { .. })
                    if attempt < options.limits.port_attempts && lost_a_free_port(&options, ports) =>
                {
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    /// The HTTP interface.
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// The native protocol, where it was asked for.
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.tcp
    }

    pub fn child(&self) -> &Child {
        &self.child
    }

    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Ends when the server has ended, however that came.
    pub async fn wait(&self) -> Exit {
        self.child.wait().await
    }

    /// SIGTERM, then SIGKILL after `stop_timeout`. Takes 5 s while a connection is kept open: close clients first.
    pub async fn stop(&self) -> Exit {
        self.child.stop(self.limits.stop_timeout).await
    }
}

fn chosen(port: u16) -> Result<u16, PartsError> {
    if port != 0 {
        return Ok(port);
    }
    net::free_port().map_err(PartsError::file("find a free port on", "127.0.0.1"))
}

fn lost_a_free_port(options: &ClickHouseOptions, ports: Ports) -> bool {
    (options.http_port == 0 && net::is_taken(ports.http))
        || (options.tcp_port == Some(0) && ports.tcp.is_some_and(net::is_taken))
}

async fn start_on(options: &ClickHouseOptions, ports: Ports) -> Result<ClickHouse, PartsError> {
    let spec = match &options.engine {
        ClickHouseEngine::Program(program) => program_spec(program, options, ports)?,
        ClickHouseEngine::Library(lib) => library_spec(lib, options, ports),
    };
    let program = spec.program.clone();
    let child = Child::spawn(spec).await.map_err(|source| PartsError::Spawn { server: SERVER, program, source })?;
    let http = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.http));
    let limits = options.limits.clone();
    tokio::select! {
        () = wait_ready(http, &options.data_dir) => {
            tracing::info!(%http, pid = child.pid(), "ClickHouse is up");
            let tcp = ports.tcp.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
            Ok(ClickHouse { child, http, tcp, limits })
        }
        exit = child.wait() => Err(died(SERVER, exit, child.log_tail(limits.log_tail_bytes))),
        () = tokio::time::sleep_until(Instant::now() + limits.start_timeout) => Err(PartsError::NotReady {
            server: SERVER,
            seconds: limits.start_timeout.as_secs(),
            log: child.log_tail(limits.log_tail_bytes),
        }),
    }
}

fn library_spec(lib: &Path, options: &ClickHouseOptions, ports: Ports) -> ChildSpec {
    let mut spec = ChildSpec::new(&options.launcher.program, &options.log)
        .args(&options.launcher.args)
        .arg("--lib")
        .arg(lib)
        .arg("--path")
        .arg(&options.data_dir)
        .arg("--http-port")
        .arg(ports.http.to_string());
    if let Some(port) = ports.tcp {
        spec = spec.arg("--tcp-port").arg(port.to_string());
    }
    spec.stdin = true;
    spec
}

fn program_spec(program: &Path, options: &ClickHouseOptions, ports: Ports) -> Result<ChildSpec, PartsError> {
    let config = options.data_dir.join("server.xml");
    fs::write(&config, server_config(&options.data_dir, &config, ports)).map_err(PartsError::file("write", &config))?;
    let mut spec = ChildSpec::new(program, &options.log).arg("server").arg("--config-file").arg(&config);
    spec.current_dir = Some(options.data_dir.clone());
    // ClickHouse's watchdog would fork: the server would then be a grandchild and outlive us.
    spec.env.push(("CLICKHOUSE_WATCHDOG_ENABLE".into(), "0".into()));
    Ok(spec)
}

/// The least that `clickhouse server` needs: one user without a password, on the loopback address.
fn server_config(data_dir: &Path, config: &Path, ports: Ports) -> String {
    let data = xml(&data_dir.display().to_string());
    let users = xml(&config.display().to_string());
    let tcp = ports.tcp.map_or(String::new(), |p| format!("  <tcp_port>{p}</tcp_port>\n"));
    let http = ports.http;
    format!(
        "<clickhouse>\n  <logger><level>warning</level><console>1</console></logger>\n  \
         <listen_host>127.0.0.1</listen_host>\n  <http_port>{http}</http_port>\n{tcp}  \
         <path>{data}/</path>\n  <tmp_path>{data}/tmp/</tmp_path>\n  \
         <user_files_path>{data}/user_files/</user_files_path>\n  \
         <format_schema_path>{data}/format_schemas/</format_schema_path>\n  \
         <user_directories><users_xml><path>{users}</path></users_xml></user_directories>\n  \
         <profiles><default/></profiles>\n  <quotas><default/></quotas>\n  \
         <users><default><password></password><networks><ip>127.0.0.1</ip></networks>\
         <profile>default</profile><quota>default</quota></default></users>\n</clickhouse>\n"
    )
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Another server may have taken the port a moment before ours: what answers must also hold our folder.
async fn wait_ready(http: SocketAddr, data_dir: &Path) {
    let ours = data_dir.display().to_string();
    loop {
        if net::get(http, "/ping").await.is_ok_and(|body| body.trim() == "Ok.")
            && net::get(http, WHERE_QUERY).await.is_ok_and(|path| path.trim().trim_end_matches('/') == ours)
        {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_of_a_server_from_the_path_stays_well_formed() {
        let ports = Ports { http: 1, tcp: Some(2) };
        let config = server_config(Path::new("/a & <b>"), Path::new("/a & <b>/server.xml"), ports);
        assert!(config.contains("<path>/a &amp; &lt;b&gt;/</path>"), "{config}");
        assert!(config.contains("<http_port>1</http_port>") && config.contains("<tcp_port>2</tcp_port>"));
        assert_eq!(config.matches("<users>").count(), config.matches("</users>").count());
    }
}
