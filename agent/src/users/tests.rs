//! From claim to rights: whom the agent admits, at what cost, and what it gives away.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, advance};
use topology::model::PasscodeHash;

use super::*;
use crate::users::checker::tests::{Runs, all_at_once};
use crate::users::stored_hash::tests::quick;

/// A user who may do nothing yet.
pub(in crate::users) fn user(login: &str) -> User {
    User {
        login: login.into(),
        passcode: None,
        certificate: None,
        send: Vec::new(),
        prefixes: Vec::new(),
        subscribe: Vec::new(),
        node: None,
    }
}

fn with_passcode(login: &str, passcode: &str) -> User {
    User { passcode: Some(PasscodeHash::Text(quick(passcode))), ..user(login) }
}

fn with_certificate(login: &str, name: &str) -> User {
    User { certificate: Some(name.into()), ..user(login) }
}

fn users(users: &[User]) -> Users {
    Users::new(users, Clock::system()).unwrap()
}

/// Users whose checks are counted.
fn counted(users: &[User]) -> (Users, Arc<Runs>) {
    let runs = Arc::new(Runs::default());
    let check = runs.counted(Duration::from_millis(2));
    (Users::with_check(users, &Clock::system(), check).unwrap(), runs)
}

fn claim<'a>(login: &'a str, passcode: &'a str) -> Claim<'a> {
    Claim {
        login: Some(login.as_bytes()),
        passcode: Some(passcode.as_bytes()),
        certificate_names: &[],
        peer: [192, 0, 2, 1].into(),
    }
}

/// Who is admitted.
async fn admitted(users: &Users, claim: Claim<'_>) -> Result<Option<String>, Denied> {
    Ok(users.admit(claim).await?.login().map(str::to_owned))
}

fn name(login: &str) -> Result<Option<String>, Denied> {
    Ok(Some(login.to_owned()))
}

#[tokio::test(start_paused = true)]
async fn without_users_everybody_is_admitted() {
    let nobody = users(&[]);
    assert_eq!(admitted(&nobody, claim("web", "whatever")).await, Ok(None));
    let silent = Claim { login: None, passcode: None, ..claim("", "") };
    assert_eq!(admitted(&nobody, silent).await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn login_and_passcode_have_to_be_those_of_one_user() {
    let both = users(&[with_passcode("web", "sesame of web"), with_passcode("mail", "sesame of mail")]);
    assert_eq!(admitted(&both, claim("web", "sesame of web")).await, name("web"));
    assert_eq!(admitted(&both, claim("mail", "sesame of mail")).await, name("mail"));
    for (login, passcode) in [
        ("web", "sesame of mail"),
        ("web", ""),
        ("web", "sesame of web "),
        ("WEB", "sesame of web"),
        ("root", "sesame of web"),
    ] {
        assert_eq!(admitted(&both, claim(login, passcode)).await, Err(Denied::Wrong), "{login} {passcode}");
    }
    assert_eq!(admitted(&both, claim("", "sesame of web")).await, Err(Denied::Anonymous));
    let without_passcode = Claim { passcode: None, ..claim("web", "") };
    assert_eq!(admitted(&both, without_passcode).await, Err(Denied::Anonymous));
}

#[tokio::test(start_paused = true)]
async fn a_client_certificate_is_as_good_as_a_passcode() {
    let both =
        User { certificate: Some("both.example.net".into()), ..with_passcode("both", "sesame of both") };
    let all = users(&[
        with_certificate("web", "web.dmz.example.net"),
        both,
        with_passcode("mail", "sesame of mail"),
    ]);
    let check = async |login: Option<&str>, passcode: Option<&str>, names: &[&str], expected| {
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        let shown = Claim {
            login: login.map(str::as_bytes),
            passcode: passcode.map(str::as_bytes),
            certificate_names: &names,
            peer: [192, 0, 2, 1].into(),
        };
        assert_eq!(admitted(&all, shown).await, expected, "{login:?} {names:?}");
    };
    let web = &["other", "web.dmz.example.net"][..];
    check(None, None, web, name("web")).await;
    check(Some(""), None, web, name("web")).await;
    check(Some("web"), None, web, name("web")).await;
    check(Some("web"), Some("wrong"), web, name("web")).await;
    check(Some("both"), None, web, Err(Denied::Anonymous)).await;
    check(Some("both"), Some("wrong"), web, Err(Denied::Wrong)).await;
    check(Some("both"), Some("sesame of both"), web, name("both")).await;
    check(None, None, &["both.example.net"], name("both")).await;
    check(None, None, &["web.dmz.example.net.evil"], Err(Denied::Anonymous)).await;
    check(None, None, &[""], Err(Denied::Anonymous)).await;
    check(Some("web"), Some(""), &[], Err(Denied::Wrong)).await;
    check(Some("mail"), Some("sesame of mail"), &[], name("mail")).await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_login_costs_and_says_what_a_wrong_passcode_does() {
    let (some, runs) = counted(&[with_certificate("cert", "cert"), with_passcode("web", "sesame of web")]);
    for (number, login) in ["web", "unknown", "cert"].into_iter().enumerate() {
        assert_eq!(some.admit(claim(login, "wrong")).await, Err(Denied::Wrong), "{login}");
        assert_eq!(runs.total(), number + 1, "{login}");
        advance(Duration::from_secs(5)).await;
    }
    // Not even with the passcode of the user whose hash stands in.
    assert_eq!(some.admit(claim("unknown", "sesame of web")).await, Err(Denied::Wrong));
    assert_eq!(some.admit(claim("cert", "sesame of web")).await, Err(Denied::Wrong));
    assert_eq!(runs.total(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_right_passcode_is_remembered_for_five_minutes() {
    let (web, runs) = counted(&[with_passcode("web", "sesame of web")]);
    for _ in 0..100 {
        assert_eq!(admitted(&web, claim("web", "sesame of web")).await, name("web"));
    }
    assert_eq!(runs.total(), 1);
    advance(Duration::from_secs(299)).await;
    assert!(web.admit(claim("web", "sesame of web")).await.is_ok());
    assert_eq!(runs.total(), 1);
    advance(Duration::from_secs(1)).await;
    assert!(web.admit(claim("web", "sesame of web")).await.is_ok());
    assert_eq!(runs.total(), 2, "it was used meanwhile, and is checked again all the same");
    assert_eq!(web.admit(claim("web", "wrong")).await, Err(Denied::Wrong));
    assert_eq!(web.admit(claim("web", "wrong")).await, Err(Denied::Wrong));
    assert_eq!(runs.total(), 4, "a wrong one is not remembered");
}

#[tokio::test(start_paused = true)]
async fn a_changed_hash_file_takes_effect_and_forgets() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.hash");
    std::fs::write(&path, quick("old passcode")).unwrap();
    let web = User { passcode: Some(PasscodeHash::File(path.clone())), ..user("web") };
    let (some, runs) = counted(&[web, with_passcode("mail", "sesame of mail")]);
    assert_eq!(admitted(&some, claim("web", "old passcode")).await, name("web"));
    std::fs::write(&path, quick("new passcode")).unwrap();
    assert_eq!(admitted(&some, claim("web", "old passcode")).await, Err(Denied::Wrong));
    assert_eq!(admitted(&some, claim("web", "new passcode")).await, name("web"));
    assert_eq!(runs.total(), 3);
    // The same passcode under another salt is checked once more.
    std::fs::write(&path, quick("new passcode")).unwrap();
    assert_eq!(admitted(&some, claim("web", "new passcode")).await, name("web"));
    assert_eq!(runs.total(), 4);

    std::fs::remove_file(&path).unwrap();
    assert_eq!(admitted(&some, claim("web", "new passcode")).await, Err(Denied::Wrong));
    assert_eq!(
        admitted(&some, claim("mail", "sesame of mail")).await,
        name("mail"),
        "the others do not notice"
    );
    std::fs::write(&path, quick("new passcode")).unwrap();
    assert_eq!(admitted(&some, claim("web", "new passcode")).await, name("web"));
}

#[tokio::test(start_paused = true)]
async fn without_a_hash_that_can_be_read_nobody_is_admitted() {
    let path = "/nonexistent/web.hash".into();
    let (web, runs) = counted(&[User { passcode: Some(PasscodeHash::File(path)), ..user("web") }]);
    assert_eq!(web.admit(claim("web", "sesame of web")).await, Err(Denied::Wrong));
    assert_eq!(web.admit(claim("other", "sesame of web")).await, Err(Denied::Wrong));
    assert_eq!(runs.total(), 0);
}

#[tokio::test]
async fn two_checks_at_a_time_however_many_log_in() {
    let logins: Vec<String> = (0..50).map(|number| format!("user {number}")).collect();
    let all: Vec<User> = logins.iter().map(|login| with_passcode(login, login)).collect();
    let (all, runs) = counted(&all);
    let from = |number: u8, login| Claim { peer: [192, 0, 2, number].into(), ..claim(login, login) };
    let many = join_all(logins.iter().zip(0..).map(|(login, number)| all.admit(from(number, login)))).await;
    assert!(many.iter().all(Result::is_ok));
    assert_eq!((runs.most(), runs.total()), (2, 50));
    // All are remembered now.
    let again = join_all((0..50).map(|number| all.admit(from(number, &logins[0])))).await;
    assert!(again.iter().all(Result::is_ok));
    assert_eq!((runs.most(), runs.total()), (2, 50));
}

#[tokio::test]
async fn one_check_for_a_producer_that_connects_fifty_times_at_once() {
    let (web, runs) = counted(&[with_passcode("web", "sesame of web")]);
    let attempts = (0..50).map(|_| web.admit(claim("web", "sesame of web")));
    let many = all_at_once(&web.0.as_ref().unwrap().checker, attempts).await;
    assert!(many.iter().all(Result::is_ok));
    assert_eq!(runs.total(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_fails_waits_longer_each_time_and_the_others_do_not() {
    let (some, runs) =
        counted(&[with_passcode("web", "sesame of web"), with_passcode("mail", "sesame of mail")]);
    assert!(some.admit(claim("mail", "sesame of mail")).await.is_ok());
    let timed = async |claim| {
        let before = Instant::now();
        let verdict = admitted(&some, claim).await;
        (verdict, before.elapsed().as_millis())
    };
    // The clock stands still while a check runs.
    for expected_ms in [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000] {
        assert_eq!(timed(claim("web", "wrong")).await, (Err(Denied::Wrong), expected_ms));
    }
    assert_eq!(timed(claim("mail", "sesame of mail")).await, (name("mail"), 0), "it is remembered");
    let elsewhere = Claim { peer: [192, 0, 2, 2].into(), ..claim("web", "sesame of web") };
    assert_eq!(timed(elsewhere).await, (name("web"), 0));
    // A right guess does not show by coming through at once, though it is remembered by now.
    assert_eq!(timed(claim("web", "sesame of web")).await, (name("web"), 5000));
    assert_eq!(timed(claim("web", "sesame of web")).await, (name("web"), 0), "a success clears it");
    assert_eq!(runs.total(), 11);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_tries_many_logins_waits_too() {
    let (web, _) = counted(&[with_passcode("web", "sesame of web")]);
    let before = Instant::now();
    for number in 0..20 {
        assert_eq!(web.admit(claim(&format!("user {number}"), "wrong")).await, Err(Denied::Wrong));
    }
    let took = before.elapsed();
    assert!(took >= Duration::from_secs(8) && took <= Duration::from_secs(10), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn guesses_at_the_same_time_are_refused_unchecked() {
    let (web, runs) = counted(&[with_passcode("web", "sesame of web")]);
    let guess = |number: usize| format!("guess {number}");
    let guesses: Vec<String> = (0..1000).map(guess).collect();
    let attempts = guesses.iter().map(|guess| web.admit(claim("web", guess)));
    let verdicts = all_at_once(&web.0.as_ref().unwrap().checker, attempts).await;
    let wrong = verdicts.iter().filter(|verdict| **verdict == Err(Denied::Wrong)).count();
    let busy = verdicts.iter().filter(|verdict| **verdict == Err(Denied::Busy)).count();
    assert_eq!((wrong, busy), (16, 984), "nothing was known of the network");
    let verdicts = join_all(guesses.iter().map(|guess| web.admit(claim("web", guess)))).await;
    let refused = verdicts.iter().filter(|verdict| matches!(verdict, Err(Denied::TooOften { .. }))).count();
    assert_eq!(refused, 999, "one may try after 5 s");
    assert_eq!(runs.total(), 17);
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mail.hash");
    let (web_hash, mail_hash) = (quick("sesame of web"), quick("sesame of mail"));
    std::fs::write(&path, &mail_hash).unwrap();
    let web = User { passcode: Some(PasscodeHash::Text(web_hash.clone())), ..user("web") };
    let mail = User { passcode: Some(PasscodeHash::File(path)), ..user("mail") };
    let both = users(&[web, mail]);
    let mut shown = String::new();
    for (login, passcode) in [("web", "sesame of web"), ("mail", "sesame of mail"), ("web", "a guess")] {
        let credentials = Credentials { login: Some(login.into()), passcode: Some(passcode.into()) };
        let claim = credentials.claim(&[], [192, 0, 2, 1].into());
        shown += &format!("{credentials:?}");
        let verdict = both.admit(claim).await;
        shown += &format!("{claim:?} {verdict:?} {both:?} {:?}", both.0.as_ref().unwrap().key);
        if let Err(denied) = verdict {
            shown += &denied.to_string();
        }
    }
    let end = |hash: &str| hash.rsplit('$').next().unwrap().to_owned();
    let broken = format!("{}!", web_hash);
    let refused = User { passcode: Some(PasscodeHash::Text(broken)), ..user("web") };
    let error = Users::new(&[refused], Clock::system()).unwrap_err();
    shown += &format!("{error:?} {error}");
    assert!(shown.contains("the passcode_hash of the user \"web\" is not a whole argon2id hash"), "{shown}");
    for secret in ["sesame", "guess", &end(&web_hash), &end(&mail_hash)] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}
