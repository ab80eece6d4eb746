//! ActiveMQ of the classic line, as Debian packages it, by STOMP.

use std::process::Command;

use ::tests::process::Process;

use super::rival::{Place, Program, Rival, WayIn, WayOut, installed};

const HOME: &str = "/usr/share/activemq";

const ACTIVEMQ: Rival = Rival {
    name: "ActiveMQ",
    package: Some("activemq"),
    program: || installed("activemq"),
    durability: "",
    way_in: WayIn::Stomp { lines_per_message: 500 },
    way_out: WayOut::StompConsumer { prefetch: 200 },
    lines: 1_000_000,
    paced_rate: 10_000,
    forgets: false,
    server: || Program::that_is_dialled("activemq", command, |_| Ok(())),
};

pub(super) const RIVALS: [Rival; 2] = [
    Rival {
        name: "ActiveMQ, 500 lines a message",
        durability: "A receipt means synced: KahaDB syncs each message before it (journalDiskSyncStrategy always).",
        ..ACTIVEMQ
    },
    Rival {
        name: "ActiveMQ, 1 line a message",
        durability: "As with 500 lines.",
        way_in: WayIn::Stomp { lines_per_message: 1 },
        way_out: WayOut::StompConsumer { prefetch: 2000 },
        lines: 4_000,
        paced_rate: 300,
        ..ACTIVEMQ
    },
];

fn command(place: &Place) -> Command {
    let configuration = place.write("activemq.xml", &configuration(place));
    // Without a configuration it logs to a folder that is not ours.
    let logging = place.write(
        "log4j2.properties",
        "appender.c.type=Console\nappender.c.name=c\nrootLogger.level=WARN\nrootLogger.appenderRef.c.ref=c\n",
    );
    let folder = place.path("");
    let mut command = Process::command("java");
    command
        .current_dir(&folder)
        .args(["-Xms512m", "-Xmx1g"])
        .arg(format!("-Dactivemq.home={HOME}"))
        .arg(format!("-Dlog4j2.configurationFile={}", logging.display()));
    for property in ["activemq.base", "activemq.conf", "java.io.tmpdir"] {
        command.arg(format!("-D{property}={}", folder.display()));
    }
    command
        .arg(format!("-Dactivemq.data={}", place.data().display()))
        .args(["-jar", &format!("{HOME}/bin/activemq.jar"), "start"])
        .arg(format!("xbean:file:{}", configuration.display()));
    command
}

fn configuration(place: &Place) -> String {
    format!(
        r#"<beans xmlns="http://www.springframework.org/schema/beans"
       xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
       xsi:schemaLocation="http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans-2.0.xsd
                           http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName="bench" dataDirectory="{data}" useJmx="false"
          schedulePeriodForDestinationPurge="0">
    <destinationPolicy><policyMap><policyEntries>
      <policyEntry queue=">" producerFlowControl="true" memoryLimit="64mb"/>
    </policyEntries></policyMap></destinationPolicy>
    <persistenceAdapter><kahaDB directory="{data}/kahadb" journalDiskSyncStrategy="always"/></persistenceAdapter>
    <systemUsage><systemUsage>
      <memoryUsage><memoryUsage limit="256 mb"/></memoryUsage>
      <storeUsage><storeUsage limit="20 gb"/></storeUsage>
      <tempUsage><tempUsage limit="4 gb"/></tempUsage>
    </systemUsage></systemUsage>
    <transportConnectors>
      <transportConnector name="stomp" uri="stomp://{input}?wireFormat.maxFrameSize=104857600"/>
    </transportConnectors>
  </broker>
</beans>
"#,
        data = place.data().display(),
        input = place.input.address(),
    )
}
