use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;

struct Host {
    _folder: tempfile::TempDir,
    root: PathBuf,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        Self {
            _folder: folder,
            root,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn journal(&self) -> Journal {
        Journal::open(&self.path("state")).unwrap()
    }

    fn write(&self, name: &str, text: &str) -> Act {
        Act::write(&self.path(name), text.as_bytes().to_vec())
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path(name)).ok()
    }
}

#[test]
fn what_was_there_comes_back_to_the_octet() {
    let host = Host::new();
    let old = "{\r\n\t\"a\" : 1 }";
    fs::write(host.path("a.json"), old).unwrap();
    fs::set_permissions(host.path("a.json"), fs::Permissions::from_mode(0o640)).unwrap();
    let acts = [
        host.write("a.json", "new"),
        host.write("etc/docker/b.json", "made"),
    ];
    let kept = host.journal().apply(&acts).unwrap();
    assert_eq!(host.read("a.json").as_deref(), Some("new"));
    assert_eq!(host.read("etc/docker/b.json").as_deref(), Some("made"));
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&host.path("a.json")), 0o640);
    assert_eq!((mode(&kept), mode(&kept.join("0"))), (0o700, 0o600));

    let undone = host.journal().undo(false).unwrap();
    assert_eq!((undone.restored.len(), undone.left), (2, 0));
    assert_eq!(host.read("a.json").as_deref(), Some(old));
    assert_eq!(mode(&host.path("a.json")), 0o640);
    assert!(!host.path("etc").exists() && !host.path("state").exists());
}

#[test]
fn the_last_fix_is_undone_first() {
    let host = Host::new();
    for text in ["one", "two", "three"] {
        host.journal().apply(&[host.write("file", text)]).unwrap();
    }
    for (left, text) in [(2, Some("two")), (1, Some("one")), (0, None)] {
        assert_eq!(host.journal().undo(false).unwrap().left, left);
        assert_eq!(host.read("file").as_deref(), text);
    }
    let none = host.journal().undo(false).unwrap_err().to_string();
    assert!(none.starts_with("there is nothing to undo"), "{none}");
}

#[test]
fn what_somebody_changed_since_is_not_undone_unless_forced() {
    let host = Host::new();
    fs::write(host.path("a"), "old").unwrap();
    fs::write(host.path("b"), "old").unwrap();
    let acts = [host.write("a", "new"), host.write("b", "new")];
    host.journal().apply(&acts).unwrap();
    fs::write(host.path("b"), "edited").unwrap();
    let refused = host.journal().undo(false).unwrap_err();
    assert!(matches!(refused, JournalError::Changed { .. }), "{refused}");
    assert_eq!(host.read("a").as_deref(), Some("new"));
    host.journal().undo(true).unwrap();
    assert_eq!(host.read("a").as_deref(), Some("old"));
    assert_eq!(host.read("b").as_deref(), Some("old"));
}

#[test]
fn what_is_as_it_was_already_is_no_change() {
    let host = Host::new();
    host.journal().apply(&[host.write("a", "new")]).unwrap();
    fs::remove_file(host.path("a")).unwrap();
    host.journal().undo(false).unwrap();
    assert_eq!(host.read("a"), None);
}

#[test]
fn a_failure_half_way_undoes_what_was_done() {
    let host = Host::new();
    fs::write(host.path("a"), "old").unwrap();
    let missing = Act::Sysctl {
        path: host.path("a-folder"),
        value: "1".to_owned(),
        along: Vec::new(),
    };
    // Readable, so that it is written down, and not writable even for root.
    fs::write(host.path("state-of-kernel"), "0\n").unwrap();
    let refused = Act::Sysctl {
        path: "/proc/sys/kernel/osrelease".into(),
        value: "1".to_owned(),
        along: Vec::new(),
    };
    for act in [missing, refused] {
        let acts = [host.write("a", "new"), host.write("x/y", "new"), act];
        host.journal().apply(&acts).unwrap_err();
        assert_eq!(host.read("a").as_deref(), Some("old"));
        assert!(!host.path("x").exists());
        assert!(host.journal().numbers().unwrap().is_empty());
    }
}

#[test]
fn sysctls_come_back_with_those_that_changed_along() {
    let host = Host::new();
    fs::write(host.path("forward"), "0\n").unwrap();
    fs::write(host.path("along"), "1\n").unwrap();
    let act = Act::Sysctl {
        path: host.path("forward"),
        value: "1".to_owned(),
        along: vec![host.path("along")],
    };
    host.journal().apply(&[act]).unwrap();
    assert_eq!(host.read("forward").as_deref(), Some("1"));
    fs::write(host.path("along"), "0\n").unwrap();
    let undone = host.journal().undo(false).unwrap();
    assert_eq!(undone.restored, [host.path("forward")]);
    assert_eq!(host.read("forward").as_deref(), Some("0"));
    assert_eq!(host.read("along").as_deref(), Some("1"));
}

#[test]
fn a_link_stays_one() {
    let host = Host::new();
    fs::write(host.path("real"), "old").unwrap();
    symlink(host.path("real"), host.path("link")).unwrap();
    host.journal().apply(&[host.write("link", "new")]).unwrap();
    assert!(host.path("link").is_symlink());
    assert_eq!(host.read("real").as_deref(), Some("new"));
    host.journal().undo(false).unwrap();
    assert!(host.path("link").is_symlink());
    assert_eq!(host.read("real").as_deref(), Some("old"));

    symlink(host.path("nowhere"), host.path("dangling")).unwrap();
    let refused = host.journal().apply(&[host.write("dangling", "new")]);
    assert!(matches!(refused, Err(JournalError::NoFile { .. })));
    assert!(host.journal().numbers().unwrap().is_empty());
}

#[test]
fn two_do_not_change_the_host_at_once() {
    let host = Host::new();
    let _one = host.journal();
    let other = Journal::open(&host.path("state")).unwrap_err();
    assert!(matches!(other, JournalError::Locked));
}

#[test]
fn a_record_that_cannot_be_read_is_told() {
    let host = Host::new();
    let kept = host.journal().apply(&[host.write("a", "new")]).unwrap();
    fs::write(kept.join("manifest.json"), "{").unwrap();
    let error = host.journal().undo(false).unwrap_err().to_string();
    assert!(error.contains("the record of a fix"), "{error}");
}
