//! Where a process keeps local copies of its state: below the directory that the configuration names,
//! or where the system has its caches, one directory per application, instance and role.

use super::pipeline::Role;
use crate::config::{Settings, StateDir};
use crate::kafka::local::LocalState;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens the copies of a role; `None` if none are to be kept, or none can be.
pub(super) fn open(settings: &Settings, role: Role, instance: &str) -> Option<Arc<LocalState>> {
    let dir = match &settings.delivery.state_dir {
        StateDir::None => return None,
        StateDir::Path(dir) => dir.clone(),
        StateDir::Auto => match caches(|name| std::env::var_os(name)) {
            Some(dir) => dir,
            None => {
                tracing::warn!(
                    "no local copy of the state is kept, as neither HOME nor a directory for caches \
                     is set: name one at delivery.state_dir, or none"
                );
                return None;
            }
        },
    };
    LocalState::open(&below(&dir, &[&settings.app.name, instance, role.name()]))
}

/// The first directory for caches that the environment names.
fn caches(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // systemd names several, with colons, if there are.
    let own = variable("CACHE_DIRECTORY").and_then(|dirs| std::env::split_paths(&dirs).next());
    let xdg = || Some(PathBuf::from(variable("XDG_CACHE_HOME")?).join("touchline"));
    let home = || Some(Path::new(&variable("HOME")?).join(".cache").join("touchline"));
    // A relative one is to be ignored, says the specification of XDG.
    own.or_else(xdg).filter(|dir| dir.is_absolute()).or_else(home).filter(|dir| dir.is_absolute())
}

/// A path whose parts cannot lead anywhere else.
fn below(dir: &Path, names: &[&str]) -> PathBuf {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let part = |name: &&str| {
        let name: String = name.chars().map(safe).collect();
        if name.trim_matches('.').is_empty() { format!("_{name}") } else { name }
    };
    names.iter().map(part).fold(dir.to_owned(), |path, part| path.join(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_where_the_environment_says() {
        let of = |set: &[(&str, &str)]| {
            let found = |name: &str| set.iter().find(|(known, _)| *known == name);
            caches(|name| found(name).map(|(_, value)| value.into()))
        };
        let home = ("HOME", "/home/t");
        let xdg = ("XDG_CACHE_HOME", "/x");
        let some = |path: &str| Some(PathBuf::from(path));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[home]), some("/home/t/.cache/touchline"));
        assert_eq!(of(&[home, xdg]), some("/x/touchline"));
        assert_eq!(of(&[home, ("XDG_CACHE_HOME", "")]), some("/home/t/.cache/touchline"));
        assert_eq!(of(&[xdg, ("CACHE_DIRECTORY", "/var/cache/a:/b")]), some("/var/cache/a"));
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        let path = |names: &[&str]| below(Path::new("/d"), names).display().to_string();
        assert_eq!(path(&["touchline", "host-1.eu", "journey"]), "/d/touchline/host-1.eu/journey");
        assert_eq!(path(&["..", "a/../b", ""]), "/d/_../a_.._b/_");
    }
}
