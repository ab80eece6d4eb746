//! Against a scripted STOMP peer, which can also be silent, refuse and hang up; the tests of the whole
//! mesh use the agent itself and real brokers.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    emit: EmitArguments,
}

fn args(words: &[&str]) -> Result<EmitArguments, clap::Error> {
    Cli::try_parse_from(std::iter::once(&"emit").chain(words)).map(|cli| cli.emit)
}

/// What the peer does after CONNECT.
#[derive(Debug, Clone, Copy)]
enum Script {
    /// Gives every receipt.
    Receipts,
    /// Gives none.
    Silence,
    /// Gives so many receipts, then answers ERROR.
    Error(usize),
    /// Gives so many receipts, then hangs up.
    HangUp(usize),
    /// Does not even answer CONNECT.
    Mute,
}

struct Peer {
    listener: TcpListener,
    script: Script,
}

impl Peer {
    async fn new(script: Script) -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), script }
    }

    fn to(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// Serves one session to its end and returns its SENDs.
    async fn serve(&self) -> Vec<Frame> {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut sends = Vec::new();
        let mut buffer = Vec::new();
        while let Some(frame) = read_frame(&mut stream, &mut buffer).await {
            let answer = match (frame.command.as_str(), self.script) {
                ("CONNECT", Script::Mute) => String::new(),
                ("CONNECT", _) => "CONNECTED\nversion:1.2\n\n\0\n".to_owned(),
                ("SEND", Script::Error(after)) if sends.len() == after => {
                    "ERROR\nmessage:no more\n\n\0\n".to_owned()
                }
                ("SEND", Script::HangUp(after)) if sends.len() == after => return sends,
                ("SEND", Script::Silence) => String::new(),
                _ => format!("RECEIPT\nreceipt-id:{}\n\n\0\n", frame.header("receipt")),
            };
            if frame.command == "SEND" {
                sends.push(frame);
            }
            // Whoever gave up does not read the answer.
            drop(stream.write_all(answer.as_bytes()).await);
        }
        sends
    }

    /// Runs emit against this peer; returns what it says and the SENDs of the session.
    async fn run(
        &self,
        words: &[&str],
        input: impl io::Read + Send + 'static,
    ) -> (Result<Option<String>, EmitError>, Vec<Frame>) {
        let to = self.to();
        let args = args(&[words, &["--to", to.as_str()]].concat()).unwrap();
        let clock = Clock::manual(Arc::new(AtomicI64::new(1_700_000_000_500)));
        let emitted = async { emit(&args, "web1.us.example.net", &clock, input).await };
        tokio::join!(emitted, self.serve())
    }
}

#[derive(Debug)]
struct Frame {
    command: String,
    headers: String,
    body: String,
}

impl Frame {
    fn header(&self, name: &str) -> &str {
        let value = self.headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}

async fn read_frame(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Frame> {
    loop {
        if let Some(nul) = memchr::memchr(0, buffer) {
            let text = String::from_utf8(buffer.drain(..=nul).collect()).unwrap();
            let (head, body) = text.trim_start_matches('\n').split_once("\n\n").unwrap();
            let (command, headers) = head.split_once('\n').unwrap();
            let body = body.trim_end_matches('\0').to_owned();
            return Some(Frame { command: command.to_owned(), headers: headers.to_owned(), body });
        }
        if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

#[tokio::test]
async fn a_metric_goes_out_under_the_host_name_with_a_receipt() {
    let (told, sends) = Peer::new(Script::Receipts).await.run(&["load.1m", "0.25"], io::empty()).await;
    assert_eq!(told.unwrap(), None, "success is silent");
    let [send] = &sends[..] else { panic!("{sends:?}") };
    assert_eq!(send.body, "web1_us_example_net.load.1m 0.25 1700000000");
    assert_eq!(send.header("destination"), "/queue/graphite");
    assert_eq!(send.header("persistent"), "true");
    assert_eq!(send.header("content-length"), send.body.len().to_string());
    assert!(!send.header("receipt").is_empty());
}

#[tokio::test]
async fn the_name_may_be_given_whole_or_another_prefix() {
    let peer = Peer::new(Script::Receipts).await;
    let (_, sends) = peer.run(&["--no-host", "load;dc=us", "-1.5e-3"], io::empty()).await;
    assert_eq!(sends[0].body, "load;dc=us -1.5e-3 1700000000");
    let (_, sends) =
        peer.run(&["--prefix", "dc1.web", "load", "-.5", "--destination", "/queue/x"], io::empty()).await;
    assert_eq!(
        (sends[0].body.as_str(), sends[0].header("destination")),
        ("dc1.web.load -.5 1700000000", "/queue/x")
    );
}

#[tokio::test]
async fn what_is_not_a_metric_is_not_sent() {
    let run_offline = async |words: &[&str]| {
        let args = args(words).unwrap();
        emit(&args, "h", &Clock::system(), io::empty()).await.unwrap_err()
    };
    for value in ["abc", "nan", "1_000", "", "1 2", "1\n2", "0x1f"] {
        assert_eq!(
            run_offline(&["a", value]).await.to_string(),
            format!("the value `{value}` is not a decimal number")
        );
    }
    for name in ["", "a b", "a\nb", "a\u{7f}", "x".repeat(5000).as_str()] {
        for words in [&[name, "1"][..], &["--no-host", name, "1"]] {
            let error = run_offline(words).await;
            assert!(matches!(error, EmitError::Name(_)), "{name:?}: {error}");
        }
    }
    assert!(matches!(run_offline(&["a"]).await, EmitError::Usage(_)));
    assert!(matches!(run_offline(&["-", "1"]).await, EmitError::Usage(_)));
}

#[tokio::test]
async fn nobody_there_is_an_error_that_names_the_mend() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let args = args(&["a", "1", "--to", &format!("127.0.0.1:{port}")]).unwrap();
    let error = emit(&args, "h", &Clock::system(), io::empty()).await.unwrap_err().to_string();
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("--to HOST:PORT"), "{error}");
}

#[tokio::test]
async fn without_a_receipt_in_time_it_fails() {
    for script in [Script::Silence, Script::Mute] {
        let (told, _) = Peer::new(script).await.run(&["a", "1", "--timeout", "100ms"], io::empty()).await;
        let error = told.unwrap_err().to_string();
        assert!(error.contains("within 100ms") && !error.contains('\n'), "{error}");
    }
}

#[tokio::test]
async fn the_words_of_an_error_are_told() {
    let (told, _) = Peer::new(Script::Error(0)).await.run(&["a", "1"], io::empty()).await;
    let error = told.unwrap_err().to_string();
    assert!(error.contains("the upstream says: no more"), "{error}");
}

#[tokio::test]
async fn lines_of_standard_input_are_sent_as_they_are() {
    let input = "a 1 1\r\n\nb\t2\nlast.without.lf 3 -1";
    let (told, sends) = Peer::new(Script::Receipts).await.run(&["-"], Cursor::new(input)).await;
    assert_eq!(told.unwrap().as_deref(), Some("taken 3 of 3"));
    let bodies: Vec<&str> = sends.iter().map(|send| send.body.as_str()).collect();
    assert_eq!(bodies, ["a 1 1\nb 2 1700000000", "last.without.lf 3 1700000000"]);
    let (told, sends) =
        Peer::new(Script::Receipts).await.run(&["-", "--prefix", "p"], Cursor::new(input)).await;
    assert_eq!(told.unwrap().as_deref(), Some("taken 3 of 3"));
    assert_eq!(sends[0].body, "p.a 1 1\np.b 2 1700000000");
}

#[tokio::test]
async fn refused_lines_are_counted_and_harm_no_other() {
    let input = "a 1 1\nb x 1\nc\nd nan 1\ne 5 5\n";
    let (told, sends) = Peer::new(Script::Receipts).await.run(&["-"], Cursor::new(input)).await;
    let error = told.unwrap_err();
    assert_eq!(error.to_string(), "taken 2 of 5, refused 3 (fields 1, value 2), first \"b x 1\"");
    assert_eq!(sends[0].body, "a 1 1\ne 5 5");
    let (told, sends) = Peer::new(Script::Receipts).await.run(&["-"], io::empty()).await;
    assert_eq!((told.unwrap().as_deref(), sends.len()), (Some("taken 0 of 0"), 0));
}

#[tokio::test]
async fn a_long_stream_is_sent_in_batches_whose_receipts_are_pipelined() {
    let lines: String =
        (0..200_000).map(|line| format!("some.metric.name{line} {line} 1700000000\n")).collect();
    let (told, sends) = Peer::new(Script::Receipts).await.run(&["-"], Cursor::new(lines.clone())).await;
    assert_eq!(told.unwrap().as_deref(), Some("taken 200000 of 200000"));
    assert!(sends.iter().all(|send| send.body.len() <= 64 * 1024));
    assert!(sends.len() < 300, "{} SENDs", sends.len());
    let sent: String = sends.iter().map(|send| send.body.clone() + "\n").collect();
    assert!(sent == lines, "every line, once, in order");
}

#[tokio::test]
async fn a_session_that_breaks_tells_what_was_taken() {
    let lines: String = (0..50_000).map(|line| format!("m{line} 1 1700000000\n")).collect();
    for script in [Script::Error(2), Script::HangUp(2)] {
        let (told, sends) = Peer::new(script).await.run(&["-"], Cursor::new(lines.clone())).await;
        let receipted: usize = sends[..2].iter().map(|send| send.body.lines().count()).sum();
        let error = told.unwrap_err().to_string();
        assert!(error.starts_with(&format!("taken {receipted} of ")), "{error}");
    }
    let (told, _) =
        Peer::new(Script::Silence).await.run(&["-", "--timeout", "100ms"], Cursor::new(lines)).await;
    let error = told.unwrap_err().to_string();
    assert!(error.starts_with("taken 0 of ") && error.contains("no receipt"), "{error}");
}

#[tokio::test]
async fn an_input_that_breaks_is_told_after_what_was_read_is_taken() {
    struct Broken(bool);
    impl io::Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.0, true) {
                return Err(io::Error::other("the disk is gone"));
            }
            buffer[..6].copy_from_slice(b"a 1 1\n");
            Ok(6)
        }
    }
    let (told, sends) = Peer::new(Script::Receipts).await.run(&["-"], Broken(false)).await;
    assert_eq!(told.unwrap_err().to_string(), "taken 1 of 1: cannot read standard input: the disk is gone");
    assert_eq!(sends[0].body, "a 1 1");
}

#[test]
fn the_target_may_be_a_name_or_an_address_with_or_without_a_port() {
    let parsed = |text| endpoint(text).map(|endpoint| (endpoint.host, endpoint.port)).ok();
    let is = |host: &str, port| Some((host.to_owned(), port));
    assert_eq!(parsed("mq1.example.net:61614"), is("mq1.example.net", 61614));
    assert_eq!(parsed("mq1"), is("mq1", 61613));
    assert_eq!(parsed("[::1]:5"), is("::1", 5));
    assert_eq!(parsed("[::1]"), is("::1", 61613));
    for bad in ["", ":1", "a:", "a:0", "a:b", "a:65536", "::1", "[::1", "[::1]5", "[]:1", "[::1]:"] {
        assert_eq!(parsed(bad), None, "{bad:?}");
    }
}

#[test]
fn options_may_stand_anywhere() {
    for words in [
        &["--to", "h:1", "a", "-1"][..],
        &["a", "--to", "h:1", "-1"],
        &["a", "-1", "--to", "h:1"],
        &["-", "--to", "h:1"],
        &["--to", "h:1", "-"],
    ] {
        let args = args(words).unwrap();
        let value = if args.name == "-" { None } else { Some("-1") };
        assert_eq!((args.value.as_deref(), args.to.to_string().as_str()), (value, "h:1"), "{words:?}");
    }
}

#[test]
fn wrong_use_is_found_by_the_parser() {
    for words in [
        &[][..],
        &["a", "1", "--prefix", "b c"],
        &["a", "1", "--prefix", "x", "--no-host"],
        &["a", "1", "--timeout", "2"],
        &["a", "1", "--login", "x"],
    ] {
        assert_eq!(args(words).unwrap_err().exit_code(), 2, "{words:?}");
    }
}
