//! Reading: the same bytes for everybody, and nothing from outside of the root.

use std::os::unix::fs::symlink;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::plan::hash;

fn want(path: &str, bytes: bool, max: u64) -> Want {
    Want { path: RelPath::parse(path).unwrap(), bytes, max }
}

#[tokio::test]
async fn what_is_hashed_is_what_goes_to_the_sink_and_what_is_given_back() {
    let mut site = Site::new();
    let names: Vec<String> = (0..300).map(|n| format!("d{}/f{n}", n % 9)).collect();
    names.iter().for_each(|name| site.write(name, &format!("text of {name}")));
    symlink("d0/f0", site.at("link")).unwrap();
    site.write("empty", "");
    site.observe(Ask::Hinted).await;
    let sunk = Arc::new(Mutex::new(BTreeMap::new()));
    let sink: Sink = {
        let sunk = Arc::clone(&sunk);
        Arc::new(move |hash, bytes| {
            sunk.lock().unwrap().insert(hash.to_string(), bytes.to_vec());
            Ok(())
        })
    };
    let all = names.iter().map(String::as_str).chain(["link", "empty"]);
    let wants: Vec<Want> = all.enumerate().map(|(n, name)| want(name, n % 2 == 0, 100)).collect();
    let read = site.source.read(wants.clone(), sink).await.unwrap();
    assert_eq!(read.len(), wants.len());
    for (want, reading) in wants.iter().zip(&read) {
        let content = reading.content.as_ref().unwrap();
        let expected = match want.path.as_str() {
            "link" => "d0/f0".into(),
            "empty" => String::new(),
            name => format!("text of {name}"),
        };
        assert_eq!(reading.path, want.path);
        assert_eq!(content.hash, hash::content(expected.as_bytes()));
        assert_eq!(content.size, expected.len() as u64);
        assert_eq!(content.target.as_deref(), (want.path.as_str() == "link").then_some("d0/f0"));
        assert_eq!(reading.bytes.as_deref(), want.bytes.then_some(expected.as_bytes()));
        assert_eq!(sunk.lock().unwrap()[&content.hash.to_string()], expected.as_bytes());
    }
}

#[tokio::test]
async fn a_file_over_the_limit_is_refused_unread() {
    let mut site = Site::new();
    site.write("large", "0123456789");
    // Longer on paper than any disk: reading it would not end.
    std::fs::File::create(site.at("huge")).unwrap().set_len(1 << 40).unwrap();
    site.observe(Ask::Hinted).await;
    let refused = |size, max| Err(ReadRefusal::TooLarge { size, max });
    assert_eq!(site.read_up_to("large", 9).await.content, refused(10, 9));
    assert!(site.read_up_to("large", 10).await.content.is_ok());
    assert_eq!(site.read_up_to("huge", 1 << 20).await.content, refused(1 << 40, 1 << 20));
}

#[tokio::test]
async fn one_that_cannot_be_read_does_not_hide_others() {
    let mut site = Site::seen(&["a/x", "a/y", "b/z"]).await;
    site.quiet().await;
    site.remove("a/x");
    site.remove("b");
    let wants = ["a/x", "a/y", "b/z", "a"].map(|path| want(path, true, 100)).to_vec();
    let read = site.source.read(wants, no_sink()).await.unwrap();
    let content = |at: usize| read[at].content.as_ref().map(|content| content.size);
    assert_eq!(content(0), Err(&ReadRefusal::Gone));
    assert_eq!(content(1), Ok(3));
    assert_eq!(content(2), Err(&ReadRefusal::Gone));
    assert_eq!(content(3), Err(&ReadRefusal::Gone));
    // What is gone is told by the next observation, with or without an event.
    assert_eq!(site.observe(Ask::Hinted).await, set(&["a/x", "b/z"]));
}

#[tokio::test]
async fn what_was_read_and_is_not_what_was_observed_is_told() {
    let mut site = Site::with(|options| options.max_watches = Some(0));
    site.write("a/x", "before");
    site.observe(Ask::Hinted).await;
    site.quiet().await;
    site.write("a/x", "after, and nobody saw it");
    assert_eq!(site.text("a/x").await.unwrap(), "after, and nobody saw it");
    site.hint_of("a/x").await;
    assert_eq!(site.observe(Ask::Hinted).await, set(&["a/x"]));
}

#[tokio::test]
async fn a_file_that_is_written_all_the_time_is_whole_or_moving() {
    let mut site = Site::seen(&["moving"]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (stop, path) = (Arc::clone(&stop), site.at("moving"));
        std::thread::spawn(move || {
            for round in 0u8.. {
                // Each time of another length: bytes and length have to fit.
                let text = vec![b'a' + round % 26; 100 + usize::from(round)];
                std::fs::write(&path, text).unwrap();
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                if round == u8::MAX - 1 {
                    std::fs::write(&path, [b'z'; 100]).unwrap();
                    break;
                }
            }
            stop.store(true, Ordering::Relaxed);
        })
    };
    while !stop.load(Ordering::Relaxed) {
        let reading = site.read("moving").await;
        match reading.content {
            Ok(content) => {
                let bytes = reading.bytes.unwrap();
                assert_eq!((content.size, content.hash), (bytes.len() as u64, hash::content(&bytes)));
            }
            Err(refusal) => assert_eq!(refusal, ReadRefusal::Moving),
        }
    }
    writer.join().unwrap();
    site.settle().await;
    assert_eq!(site.text("moving").await.unwrap(), "z".repeat(100));
}

#[tokio::test]
async fn no_link_leads_out_of_the_root() {
    let mut site = Site::seen(&["d/secret", "top"]).await;
    let outside = site.temp.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "from outside").unwrap();
    // Swapped after the tree was observed: the directory, and a file.
    site.remove("d");
    symlink(&outside, site.at("d")).unwrap();
    site.remove("top");
    symlink(outside.join("secret"), site.at("top")).unwrap();
    assert_eq!(site.text("d/secret").await, Err(ReadRefusal::Gone));
    let top = site.read("top").await;
    let target = outside.join("secret").display().to_string();
    assert_eq!(top.content.unwrap().target, Some(target.clone()));
    assert_eq!(*top.bytes.unwrap(), *target.as_bytes());
}

#[tokio::test]
async fn a_sink_that_fails_fails_the_call() {
    let mut site = Site::seen(&["x"]).await;
    let full: Sink = Arc::new(|_, _| Err(std::io::Error::other("no space")));
    let error = site.source.read(vec![want("x", false, 100)], full).await.unwrap_err();
    assert_eq!((error.reason, error.source.unwrap().to_string().as_str()), ("StoreFailed", "no space"));
}

#[tokio::test]
async fn nothing_is_read_from_a_root_that_is_gone() {
    let mut site = Site::seen(&["x"]).await;
    std::fs::remove_dir_all(&site.root).unwrap();
    let error = site.source.read(vec![want("x", false, 100)], no_sink()).await.unwrap_err();
    assert_eq!(error.reason, "RootMissing");
}

#[tokio::test]
async fn after_a_panic_it_begins_anew() {
    let mut site = Site::seen(&["x"]).await;
    let broken: Sink = Arc::new(|_, _| panic!("a bug"));
    let error = site.source.read(vec![want("x", false, 100)], broken).await.unwrap_err();
    assert_eq!(error.reason, "Internal");
    assert_eq!(site.observe(Ask::Hinted).await, set(&["ALL"]));
    site.write("x", "watched again");
    assert_eq!(site.settle().await, set(&["x"]));
}
