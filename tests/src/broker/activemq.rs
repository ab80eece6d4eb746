//! One ActiveMQ of the classic line, as Debian packages it, without its web console.

use std::path::Path;

use crate::process::Process;

use super::{LOGIN, PASSCODE, Ports};

const HOME: &str = "/usr/share/activemq";
pub(super) const PROGRAM: &str = "/usr/share/activemq/bin/activemq.jar";

/// Starts the broker on the files in `folder`.
pub(super) fn launch(folder: &Path, ports: &Ports) -> Vec<Process> {
    let configuration = folder.join("activemq.xml");
    let text = configuration_text(folder, ports);
    std::fs::write(&configuration, text).expect("the broker's folder can be written");
    let property = |name: &str, value: &Path| format!("-D{name}={}", value.display());
    let mut command = Process::command("java");
    command
        .current_dir(folder)
        .args(["-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .arg(property("activemq.home", Path::new(HOME)))
        .arg(property("activemq.base", folder))
        .arg(property("activemq.conf", folder))
        .arg(property("activemq.data", &folder.join("data")))
        .arg(property("java.io.tmpdir", folder))
        .arg("-jar")
        .arg(PROGRAM)
        .args(["start", &format!("xbean:file:{}", configuration.display())]);
    vec![Process::spawn("activemq", &mut command, &folder.join("activemq.log"))]
}

fn configuration_text(folder: &Path, ports: &Ports) -> String {
    format!(
        r#"<beans xmlns="http://www.springframework.org/schema/beans"
       xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
       xsi:schemaLocation="http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans-2.0.xsd
                           http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName="packetboat" dataDirectory="{data}" useJmx="false">
    <plugins>
      <simpleAuthenticationPlugin anonymousAccessAllowed="true" anonymousUser="guest" anonymousGroup="users">
        <users><authenticationUser username="{LOGIN}" password="{PASSCODE}" groups="users"/></users>
      </simpleAuthenticationPlugin>
    </plugins>
    <persistenceAdapter><kahaDB directory="{data}/kahadb"/></persistenceAdapter>
    <systemUsage><systemUsage>
      <memoryUsage><memoryUsage limit="128 mb"/></memoryUsage>
      <storeUsage><storeUsage limit="4 gb"/></storeUsage>
      <tempUsage><tempUsage limit="1 gb"/></tempUsage>
    </systemUsage></systemUsage>
    <transportConnectors>
      <transportConnector name="stomp" uri="stomp://127.0.0.1:{stomp}"/>
      <transportConnector name="openwire" uri="tcp://127.0.0.1:{openwire}"/>
    </transportConnectors>
  </broker>
</beans>
"#,
        data = folder.join("data").display(),
        stomp = ports.stomp.number(),
        openwire = ports.native.number(),
    )
}
