//! [`Etcd`]: a real etcd of one member or several, for one test.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longer than anything takes on a busy machine; only a failing test waits for as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where the programs of one version are.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    folder: PathBuf,
}

impl Version {
    /// Each version there is: below the checkout, or else on PATH.
    pub(crate) fn all() -> Vec<Self> {
        let below = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.dev/etcd");
        let below = below.read_dir().into_iter().flatten().map(|entry| entry.unwrap().path());
        let on_path = std::env::var_os("PATH").unwrap_or_default();
        let on_path: Vec<_> = std::env::split_paths(&on_path).collect();
        let has_programs = |folder: &PathBuf| folder.join("etcd").exists() && folder.join("etcdctl").exists();
        let mut found: Vec<_> = below.filter(has_programs).collect();
        if found.is_empty() {
            found.extend(on_path.into_iter().find(has_programs));
        }
        assert!(!found.is_empty(), "there is no etcd to test with: `./dev setup` installs it");
        found.into_iter().map(|folder| Self { folder }).collect()
    }
}

/// Runs `test` with each version of etcd.
pub(crate) fn with_each_version(test: impl AsyncFn(Version)) {
    // Threads of its own for the workers: what a test does with processes blocks its thread.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for version in Version::all() {
        eprintln!("with etcd of {}", version.folder.display());
        runtime.block_on(test(version));
    }
}

/// A real etcd. It ends, and its data goes, when it is dropped.
pub(crate) struct Etcd {
    version: Version,
    dir: TempDir,
    members: Vec<Member>,
    server_arguments: Vec<String>,
    client_arguments: Vec<String>,
    scheme: &'static str,
}

struct Member {
    client: u16,
    peer: u16,
    process: Option<Child>,
}

impl Etcd {
    /// One member, which anyone may use.
    pub(crate) fn start(version: Version) -> Self {
        Self::with_members(version, 1)
    }

    /// Several members, which anyone may use.
    pub(crate) fn with_members(version: Version, count: usize) -> Self {
        Self::serving(version, count, "http", Vec::new(), Vec::new())
    }

    /// One member, which anyone may use, and whose values may be as long as this.
    pub(crate) fn with_values_up_to(version: Version, bytes: usize) -> Self {
        Self::serving(version, 1, "http", vec![format!("--max-request-bytes={}", bytes + (64 << 10))], Vec::new())
    }

    /// One member that is spoken to by TLS. Servers and `etcdctl` are given these arguments besides.
    pub(crate) fn encrypted(version: Version, server: Vec<String>, client: Vec<String>) -> Self {
        Self::serving(version, 1, "https", server, client)
    }

    fn serving(
        version: Version,
        count: usize,
        scheme: &'static str,
        server_arguments: Vec<String>,
        client_arguments: Vec<String>,
    ) -> Self {
        // Held until all are known, so that no two are the same.
        let held: Vec<_> = (0..2 * count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<_> = held.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        let members = ports.chunks(2).map(|ports| Member { client: ports[0], peer: ports[1], process: None }).collect();
        let dir = tempfile::tempdir().unwrap();
        drop(held);
        let mut etcd = Self { version, dir, members, server_arguments, client_arguments, scheme };
        for at in 0..count {
            etcd.spawn(at);
        }
        (0..count).for_each(|at| etcd.wait_for(at));
        etcd
    }

    /// `host:port` of one member.
    pub(crate) fn address(&self, at: usize) -> String {
        format!("127.0.0.1:{}", self.members[at].client)
    }

    /// Which member listens at `address`.
    pub(crate) fn at(&self, address: &str) -> usize {
        (0..self.members.len()).find(|at| self.address(*at) == address).unwrap()
    }

    /// Of all members.
    pub(crate) fn addresses(&self) -> Vec<String> {
        (0..self.members.len()).map(|at| self.address(at)).collect()
    }

    /// Kills one member.
    pub(crate) fn kill(&mut self, at: usize) {
        let mut process = self.members[at].process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Starts a member that was killed, and returns when it serves.
    pub(crate) fn restart(&mut self, at: usize) {
        self.spawn(at);
        self.wait_for(at);
    }

    /// Starts the only member, which was killed, with nothing of what it knew.
    pub(crate) fn restart_empty(&mut self) {
        std::fs::remove_dir_all(self.data(0)).unwrap();
        self.restart(0);
    }

    /// What `etcdctl` says, who must succeed.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> String {
        let output = self.command(&self.addresses().join(",")).args(arguments).output().unwrap();
        assert!(output.status.success(), "etcdctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Puts zeros at a key, by etcd's HTTP: `etcdctl` sends nothing that is longer than 2 MiB. The key is in base64.
    pub(crate) fn put_zeros(&self, key: &str, bytes: usize) {
        let body = format!(r#"{{"key":"{key}","value":"{}"}}"#, "AAAA".repeat(bytes.div_ceil(3)));
        let mut stream = TcpStream::connect(self.address(0)).unwrap();
        let head = format!(
            "POST /v3/kv/put HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    }

    /// Makes `etcdctl` do this for as long as the result lives.
    pub(crate) fn keep_doing(&self, arguments: &[&str]) -> Doing {
        Doing(self.command(&self.address(0)).args(arguments).stdout(Stdio::null()).spawn().unwrap())
    }

    /// Lets nobody in any more but these users.
    pub(crate) fn require_users(&mut self, root_password: &str) {
        self.ctl(&["user", "add", &format!("root:{root_password}")]);
        self.ctl(&["user", "grant-role", "root", "root"]);
        self.ctl(&["auth", "enable"]);
        self.client_arguments.push(format!("--user=root:{root_password}"));
    }

    fn command(&self, endpoints: &str) -> Command {
        let mut command = Command::new(self.version.folder.join("etcdctl"));
        command
            .env("ETCDCTL_API", "3")
            .args(["--dial-timeout=1s", "--endpoints", endpoints])
            .args(&self.client_arguments);
        command
    }

    fn data(&self, at: usize) -> PathBuf {
        self.dir.path().join(format!("data{at}"))
    }

    fn spawn(&mut self, at: usize) {
        let all = self.members.iter().enumerate();
        let all: Vec<_> = all.map(|(at, member)| format!("m{at}=http://127.0.0.1:{}", member.peer)).collect();
        let Member { client, peer, .. } = self.members[at];
        let client = format!("{}://127.0.0.1:{client}", self.scheme);
        let peer = format!("http://127.0.0.1:{peer}");
        let log = std::fs::File::create(self.dir.path().join(format!("log{at}"))).unwrap();
        let process = Command::new(self.version.folder.join("etcd"))
            .args(["--name", &format!("m{at}"), "--data-dir", self.data(at).to_str().unwrap()])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &all.join(","), "--initial-cluster-token", "test", "--bcrypt-cost", "4"])
            // Leases may be as short as a second then.
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .args(&self.server_arguments)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.members[at].process = Some(process);
    }

    fn wait_for(&mut self, at: usize) {
        let deadline = Instant::now() + PATIENCE;
        let address = self.address(at);
        while !self.command(&address).args(["endpoint", "health"]).output().unwrap().status.success() {
            let ended = self.members[at].process.as_mut().unwrap().try_wait().unwrap();
            let log = || std::fs::read_to_string(self.dir.path().join(format!("log{at}"))).unwrap();
            assert!(ended.is_none(), "etcd has ended: {}", log());
            assert!(Instant::now() < deadline, "etcd does not serve: {}", log());
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(mut process) = member.process.take() {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}

/// A process that goes on until this is dropped.
pub(crate) struct Doing(Child);

impl Drop for Doing {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
