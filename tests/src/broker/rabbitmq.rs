//! One node of RabbitMQ, with an epmd of the test's own: the system's would outlive it.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::Process;
use crate::wait::until;

use super::{LOGIN, PASSCODE, Ports};

const CONTROL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";
pub(super) const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const EPMD_LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

/// Starts epmd and the node on the files in `folder`. The node is first: it is to be ended first.
pub(super) fn launch(folder: &Path, ports: &Ports) -> Vec<Process> {
    configure(folder, ports, "");
    let epmd = launch_epmd(folder, ports);
    vec![launch_node(folder, ports), epmd]
}

/// Starts the node alone, on what [`configure`] has written. Its epmd has to be there.
pub(super) fn launch_node(folder: &Path, ports: &Ports) -> Process {
    let log = folder.join("rabbitmq.log");
    let mut command = Process::command(SERVER);
    environment(&mut command, folder, ports);
    Process::spawn("rabbitmq", &mut command, &log)
}

/// Runs `rabbitmqctl` on the node, and returns what it printed.
pub(super) fn control(folder: &Path, ports: &Ports, arguments: &[&str]) -> String {
    let mut command = Command::new(CONTROL);
    environment(&mut command, folder, ports);
    let output = command.args(arguments).stdin(Stdio::null()).output().expect("rabbitmqctl can be run");
    let [printed, said] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "rabbitmqctl {arguments:?}: {printed}{said}");
    printed.into_owned()
}

pub(super) fn launch_epmd(folder: &Path, ports: &Ports) -> Process {
    let mut command = Process::command("epmd");
    command.args(["-address", "127.0.0.1", "-port", &ports.epmd.number().to_string()]);
    let epmd = Process::spawn("epmd", &mut command, &folder.join("epmd.log"));
    until(EPMD_LIMIT, "epmd", || std::net::TcpStream::connect(ports.epmd.address()));
    epmd
}

/// Writes the files of a node into `folder`; `more` are further lines of its configuration.
pub(super) fn configure(folder: &Path, ports: &Ports, more: &str) {
    let definitions = folder.join("definitions.json");
    let settings = format!(
        "listeners.tcp.1 = 127.0.0.1:{native}\n\
         stomp.listeners.tcp.1 = 127.0.0.1:{stomp}\n\
         stomp.default_user = guest\n\
         stomp.default_pass = guest\n\
         load_definitions = {definitions}\n\
         disk_free_limit.absolute = 200MB\n\
         log.console = true\n\
         log.console.level = warning\n\
         log.file = false\n\
         {more}",
        native = ports.native.number(),
        stomp = ports.stomp.number(),
        definitions = definitions.display(),
    );
    write(folder, "rabbitmq.conf", &settings);
    write(folder, "definitions.json", &users().to_string());
    write(folder, "enabled_plugins", "[rabbitmq_stomp].\n");
    write(folder, "env.conf", "");
}

fn users() -> serde_json::Value {
    let permission = |user| serde_json::json!({ "user": user, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*" });
    serde_json::json!({
        "vhosts": [{ "name": "/" }],
        "users": [
            { "name": "guest", "password": "guest", "tags": "" },
            { "name": LOGIN, "password": PASSCODE, "tags": "" },
        ],
        "permissions": [permission("guest"), permission(LOGIN)],
    })
}

/// What the node is called among its like.
pub(super) fn node_name(ports: &Ports) -> String {
    format!("packetboat{}@localhost", ports.stomp.number())
}

fn environment(command: &mut Command, folder: &Path, ports: &Ports) {
    let file = |name: &str| folder.join(name);
    command
        .current_dir(folder)
        .env("HOME", folder)
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", ports.epmd.number().to_string())
        .env("RABBITMQ_NODENAME", node_name(ports))
        .env("RABBITMQ_DIST_PORT", ports.distribution.number().to_string())
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
        .env("RABBITMQ_CONF_ENV_FILE", file("env.conf"))
        .env("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins"))
        .env("RABBITMQ_MNESIA_BASE", file("mnesia"))
        .env("RABBITMQ_LOG_BASE", file("log"))
        .env("RABBITMQ_PID_FILE", file("pid"))
        // Makes the script become the node, so that signals reach it, instead of waiting for it.
        .env("RUNNING_UNDER_SYSTEMD", "true");
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("the broker's folder can be written");
}
