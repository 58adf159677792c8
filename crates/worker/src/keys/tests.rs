use std::{fs, os::unix::fs::symlink};

use farebox_credentials::Credentials;
use farebox_policy::{Policies, ProjectPolicy};
use farebox_providers::{Egress, Identity, Provider, ProviderOptions};
use farebox_types::Timestamp;
use secrecy::ExposeSecret;

use super::*;

/// Long after any file was written.
struct Later;

impl Clock for Later {
    fn now(&self) -> Timestamp {
        Timestamp(i64::MAX)
    }
}

/// A provider whose own key is in the environment, and a project that has one of its own.
struct World {
    dir: tempfile::TempDir,
    connection: Connection,
}

impl World {
    fn new(options: ProviderOptions) -> World {
        let provider = Provider::new("openai", &options, &Egress::default()).unwrap();
        let credentials = match &provider.identity {
            Identity::Key { secret } => Credentials::Key(secret.clone()),
            _ => Credentials::None,
        };
        World { dir: tempfile::tempdir().unwrap(), connection: Connection { provider, credentials } }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn keys(&self, own: Option<&str>) -> Keys {
        let acme = ProjectPolicy {
            name: Project::parse("acme").unwrap(),
            organisation: String::new(),
            models: Vec::new(),
            provider_keys: own.map(|own| ("openai".to_owned(), own.parse().unwrap())).into_iter().collect(),
            disabled: false,
            metadata: Default::default(),
        };
        let policies = Policies { projects: [("acme".to_owned(), acme)].into(), ..Policies::default() };
        let dirs = vec![self.path("allowed")];
        let allowed = ProjectSecrets { env_prefix: Some("PROJECT_".to_owned()), dirs };
        let options = Options { project_secrets: allowed, ..Options::default() };
        let env = [("OPENAI_API_KEY", "sk-farebox"), ("PROJECT_ACME", "sk-acme")].into_iter().collect();
        Keys::new(&options, env, Directory::fixed(policies), Arc::new(Later))
    }

    async fn found(&self, own: Option<&str>) -> Result<String, Fault> {
        let key = self.keys(own).find(&Project::parse("acme").unwrap(), &self.connection).await?;
        Ok(key.map(|key| key.expose_secret().to_owned()).unwrap_or_default())
    }
}

fn options(key: &str) -> ProviderOptions {
    ProviderOptions { api_key: Some(key.parse().unwrap()), ..Default::default() }
}

#[tokio::test]
async fn a_project_has_its_own_key_or_an_error_never_another() {
    let world = World::new(options("os.environ/OPENAI_API_KEY"));
    fs::create_dir(world.path("allowed")).unwrap();
    fs::write(world.path("allowed/acme"), "sk-file\n").unwrap();
    fs::write(world.path("outside"), "sk-outside").unwrap();
    symlink(world.path("outside"), world.path("allowed/link")).unwrap();
    let file = |name: &str| format!("file:{}", world.path(name).display());

    assert_eq!(world.found(None).await.unwrap(), "sk-farebox");
    assert_eq!(world.found(Some("os.environ/PROJECT_ACME")).await.unwrap(), "sk-acme");
    assert_eq!(world.found(Some(&file("allowed/acme"))).await.unwrap(), "sk-file");
    for (reference, kind) in [
        ("os.environ/OPENAI_API_KEY".to_owned(), ErrorKind::Forbidden),
        ("os.environ/PROJECT_OTHER".to_owned(), ErrorKind::Unavailable),
        (file("outside"), ErrorKind::Forbidden),
        (file("allowed/../outside"), ErrorKind::Forbidden),
        (file("allowed/link"), ErrorKind::Forbidden),
        (file("allowed/none"), ErrorKind::Unavailable),
    ] {
        let fault = world.found(Some(&reference)).await.unwrap_err();
        assert_eq!(fault.kind, kind, "{reference}: {fault}");
        let names_it = reference.split_once(['/', ':']).is_some_and(|(_, name)| fault.message.contains(name));
        assert!(names_it && fault.message.contains("projects.acme.provider_keys.openai"), "{fault}");
        assert!(!fault.message.contains("sk-"), "{fault}");
    }
}

#[tokio::test]
async fn a_provider_without_plain_keys_takes_none_of_a_project() {
    let bedrock = ProviderOptions {
        kind: Some("bedrock".to_owned()),
        region: Some("eu-west-1".to_owned()),
        ..ProviderOptions::default()
    };
    let fault = World::new(bedrock).found(Some("os.environ/PROJECT_ACME")).await.unwrap_err();
    assert_eq!(fault.kind, ErrorKind::Unsupported, "{fault}");
}

#[tokio::test]
async fn a_file_is_read_again_when_it_has_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    fs::write(&path, "sk-one").unwrap();
    let world = World::new(options(&format!("file:{}", path.display())));
    let keys = world.keys(None);
    let project = Project::parse("acme").unwrap();
    let find = async || keys.find(&project, &world.connection).await.map(|key| key.unwrap().expose_secret().to_owned());
    assert_eq!(find().await.unwrap(), "sk-one");
    assert_eq!(keys.files.get(&path).unwrap().1.expose_secret(), "sk-one", "it is not read for every call");
    // Of the same size, put in its place as orchestrators do.
    fs::write(dir.path().join("next"), "sk-two").unwrap();
    fs::rename(dir.path().join("next"), &path).unwrap();
    assert_eq!(find().await.unwrap(), "sk-two");
    fs::remove_file(&path).unwrap();
    let fault = find().await.unwrap_err();
    assert_eq!(fault.kind, ErrorKind::Unavailable, "{fault}");
    assert!(fault.message.contains("providers.openai.api_key"), "{fault}");
}
