//! syslog-ng, as Debian packages it.

use std::process::Command;

use ::tests::process::Process;

use super::rival::{Place, Program, Rival, WayIn, WayOut, installed};

pub(super) const RIVAL: Rival = Rival {
    name: "syslog-ng",
    package: Some("syslog-ng-core"),
    program: || installed("syslog-ng"),
    durability: "disk-buffer with reliable(yes): each line is in the page cache before the next is read; it survives \
                 kill -9 but for what is on its way in, not a power cut.",
    way_in: WayIn::Plaintext,
    way_out: WayOut::Plaintext,
    lines: 500_000,
    paced_rate: 10_000,
    forgets: false,
    server: || Program::that_dials("syslog-ng", command),
};

fn command(place: &Place) -> Command {
    let configuration = place.write("syslog-ng.conf", &configuration(place));
    let mut command = Process::command(installed("syslog-ng"));
    command.args(["--foreground", "--no-caps", "--cfgfile"]).arg(configuration);
    for (option, file) in [("--pidfile", "pid"), ("--persist-file", "persist"), ("--control", "control")] {
        command.arg(option).arg(place.path(file));
    }
    command
}

fn configuration(place: &Place) -> String {
    format!(
        "@version: 3.38\n\
         options {{ stats-freq(0); keep-hostname(yes); use-dns(no); time-reopen(1); flush-lines(1000); }};\n\
         source in {{ network(ip(\"127.0.0.1\") port({input}) transport(\"tcp\") flags(no-parse) \
         log-iw-size(10000) log-fetch-limit(1000)); }};\n\
         destination out {{ network(\"127.0.0.1\" port({output}) transport(\"tcp\") template(\"$MSG\\n\") \
         disk-buffer(reliable(yes) disk-buf-size(8589934592) mem-buf-size(16777216) dir(\"{folder}\"))); }};\n\
         log {{ source(in); destination(out); flags(flow-control); }};\n",
        input = place.input.number(),
        output = place.output.number(),
        folder = place.data().display(),
    )
}
