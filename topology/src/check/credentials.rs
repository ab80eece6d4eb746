//! Login and passcode file, as brokers have them and links may override them; and the paths of files.

use std::path::{Component, Path, PathBuf};

use super::book::{Checked, Complaint};
use super::section::Section;
use super::value::Value;
use crate::model::StompUpstream;
use crate::names::plain;

/// What a section says about logging in.
#[derive(Clone)]
pub(crate) struct Credentials {
    login: Option<String>,
    passcode_file: Option<PathBuf>,
}

impl Credentials {
    /// Nothing is said.
    pub(crate) fn none() -> Credentials {
        Credentials { login: None, passcode_file: None }
    }

    pub(crate) fn read(section: &Section<'_>) -> Checked<Credentials> {
        let login = section.read("login", Value::text);
        let passcode_file = section.read("passcode_file", |value| value.parse(absolute));
        Ok(Credentials { login: login?.map(str::to_owned), passcode_file: passcode_file? })
    }

    /// The credentials of a broker, which stand on their own.
    pub(crate) fn complete(self, section: &Section<'_>) -> Checked<(Option<String>, Option<PathBuf>)> {
        match section.get("passcode_file") {
            Some(at) if self.login.is_none() => {
                Err(at.fault("is given without a `login`", "add the `login`"))
            }
            _ => Ok((self.login, self.passcode_file)),
        }
    }

    /// Puts the credentials of a link in the place of those of the node it leads to.
    pub(crate) fn override_in(self, upstream: &mut StompUpstream, link: &Section<'_>) -> Checked<()> {
        let inherits_passcode = self.passcode_file.is_none() && upstream.passcode_file.is_some();
        if let Some(at) = link.get("login").filter(|_| inherits_passcode) {
            return Err(at.fault(
                "replaces the broker's login but not its passcode, which belongs to the other login",
                "add the `passcode_file` of this login",
            ));
        }
        upstream.login = self.login.or(upstream.login.take());
        upstream.passcode_file = self.passcode_file.or(upstream.passcode_file.take());
        match link.get("passcode_file") {
            Some(at) if upstream.login.is_none() => {
                Err(at.fault("is given without a `login`", "add the `login`"))
            }
            _ => Ok(()),
        }
    }
}

/// An absolute path without `..`. A relative one would mean one file to a service, which runs in `/`,
/// and another to an operator's shell.
pub(crate) fn absolute(text: &str) -> Result<PathBuf, Complaint> {
    let path = Path::new(text);
    if !path.is_absolute() {
        let message = format!("`{}` is a relative path", plain(text));
        return Err(Complaint::new(
            message,
            "write the whole path, from / on (`~` and `$` are not expanded)",
        ));
    }
    if path.components().any(|component| component == Component::ParentDir) {
        let message = format!("`{}` goes up by `..`", plain(text));
        return Err(Complaint::new(message, "write the path without `..`"));
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::model::Upstream;
    use crate::tests::{check, check_agent};
    use crate::{Mesh, Topology};

    fn mesh_text(broker: &str, link: &str) -> String {
        format!(
            "mesh: m\nbrokers: {{ eu: {{ urls: [stomp://mq], {broker} }} }}\nagents: {{ a: {{ forward: {{ to: eu, {link} }} }} }}"
        )
    }

    fn login(mesh: &Mesh) -> (Option<&str>, Option<&Path>) {
        let Upstream::Stomp(upstream) = &mesh.agents[0].forward[0].upstream else { panic!() };
        (upstream.login.as_deref(), upstream.passcode_file.as_deref())
    }

    fn check_login(broker: &str, link: &str, expected: (&str, &str)) {
        let mesh = Topology::parse(&mesh_text(broker, link)).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(login(&mesh), (Some(expected.0), Some(Path::new(expected.1))));
    }

    #[test]
    fn a_link_logs_in_as_its_broker_says_or_as_it_says_itself() {
        let broker = "login: all, passcode_file: /all";
        check_login(broker, "", ("all", "/all"));
        check_login(broker, "login: own, passcode_file: /own", ("own", "/own"));
        check_login(broker, "passcode_file: /own", ("all", "/own"));
        check_login("login: all", "passcode_file: /own", ("all", "/own"));
        check_login("vhost: x", "login: own, passcode_file: /own", ("own", "/own"));
    }

    #[test]
    fn a_passcode_wants_a_login() {
        let mend = "is given without a `login`; add the `login`";
        check(
            &mesh_text("passcode_file: /x", "login: a, passcode_file: /y"),
            &format!("line 2: brokers.eu.passcode_file: {mend}"),
        );
        check_agent(
            "forward: { to: eu, passcode_file: /x }",
            &format!("line 4: agents.a.forward.passcode_file: {mend}"),
        );
    }

    #[test]
    fn a_login_does_not_inherit_the_passcode_of_another() {
        check(
            &mesh_text("login: all, passcode_file: /all", "login: own"),
            "line 3: agents.a.forward.login: replaces the broker's login but not its passcode, which belongs to the \
             other login; add the `passcode_file` of this login",
        );
    }

    #[test]
    fn a_path_is_absolute() {
        let rest = "is a relative path; write the whole path, from / on (`~` and `$` are not expanded)";
        for path in ["eu.passcode", "~/eu.passcode", "$CREDENTIALS_DIRECTORY/eu"] {
            check_agent(
                &format!("forward: {{ to: eu, login: x, passcode_file: {path} }}"),
                &format!("line 4: agents.a.forward.passcode_file: `{path}` {rest}"),
            );
        }
        check_agent("spool: { dir: spool }", &format!("line 4: agents.a.spool.dir: `spool` {rest}"));
    }

    #[test]
    fn a_path_does_not_go_up() {
        check_agent(
            "spool: { dir: /var/lib/../x }",
            "line 4: agents.a.spool.dir: `/var/lib/../x` goes up by `..`; write the path without `..`",
        );
    }
}
