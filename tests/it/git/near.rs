//! What a push brought is copied from a repository on this machine; what is odd about it is fetched.

use super::*;

/// Keeps git from giving the branch out: what is seen from now on was copied.
fn hide(bench: &Bench) {
    bench.repo.bare_git(&["config", "uploadpack.hideRefs", "refs/heads"]);
}

fn whole(store: &Path) {
    crate::repo::run(store, &["fsck", "--strict", "--no-dangling"], b"");
}

#[tokio::test]
async fn pushes_are_copied_whole_without_a_program_of_git() {
    let bench = Bench::new(Via::File, Repo::with(&[("a", "1"), ("dir/b", "1")]));
    let mut source = bench.source();
    let mut deployed = at(&look(&mut source).await).to_owned();
    hide(&bench);
    // A commit, several at once, a merge of a branch that began earlier, and the same after git put all in one pack.
    let commit = bench.repo.publish(&[("dir/c/d", "2")]);
    let seen = look_from(&mut source, &deployed).await;
    assert_eq!((at(&seen), changed(&seen), seen.rewritten), (commit.as_str(), vec!["dir/c/d"], false));
    assert_eq!(text(&mut source, "dir/c/d").await, "2");
    bench.repo.git(&["checkout", "--quiet", "-b", "side", "HEAD~1"]);
    bench.repo.write("side", "3");
    bench.repo.commit("side");
    bench.repo.git(&["checkout", "--quiet", "main"]);
    bench.repo.write("a", "4");
    bench.repo.commit("main");
    bench.repo.git(&["merge", "--quiet", "--no-edit", "side"]);
    bench.repo.push();
    bench.repo.bare_git(&["gc", "--quiet"]);
    let seen = look_from(&mut source, &deployed).await;
    assert_eq!(changed(&seen), ["a", "side"]);
    assert!(!seen.rewritten);
    deployed = at(&seen).to_owned();
    assert_eq!((text(&mut source, "a").await, text(&mut source, "side").await), ("4".into(), "3".into()));
    // What is removed, an empty directory's tree, a submodule and a link are no matter either.
    let blob = bench.repo.blob(b"a");
    let empty = bench.repo.tree(&[]);
    let tree = bench.repo.tree(&[
        ("120000", b"link", &blob),
        ("40000", b"none", &empty),
        ("160000", b"sub", "0123456789012345678901234567890123456789"),
    ]);
    let commit = bench.repo.bare_git(&["commit-tree", "-p", &deployed, "-m", "odd", &tree]);
    bench.repo.bare_git(&["update-ref", "refs/heads/main", &commit]);
    let seen = look_from(&mut source, &deployed).await;
    assert_eq!((at(&seen), seen.rewritten), (commit.as_str(), false));
    assert!(changed(&seen).contains(&"link") && changed(&seen).contains(&"a"), "{:?}", changed(&seen));
    whole(&bench.store());
    // It is there after a restart, and one who rewinds needs nothing.
    assert_eq!(at(&look(&mut bench.source()).await), commit);
    bench.repo.bare_git(&["update-ref", "refs/heads/main", &deployed]);
    let seen = look_from(&mut source, &commit).await;
    assert_eq!((at(&seen), seen.rewritten), (deployed.as_str(), true));
}

#[tokio::test]
async fn a_tag_is_copied_with_what_it_leads_to() {
    let bench = Bench::new(Via::File, Repo::with(&[("a", "1")]));
    bench.repo.git(&["tag", "-a", "-m", "one", "v1"]);
    bench.repo.git(&["push", "--quiet", "origin", "v1"]);
    let mut source = bench.following(GitRef::Tag("v1".into()));
    look(&mut source).await;
    bench.repo.bare_git(&["config", "uploadpack.hideRefs", "refs/tags"]);
    let commit = bench.repo.publish(&[("a", "2")]);
    bench.repo.git(&["tag", "-f", "-a", "-m", "two", "v1"]);
    bench.repo.git(&["push", "--quiet", "--force", "origin", "v1"]);
    assert_eq!(at(&look(&mut source).await), commit);
    assert_eq!(text(&mut source, "a").await, "2");
    assert!(look(&mut source).await.changes.is_none());
}

#[tokio::test]
async fn an_object_is_what_its_id_says() {
    let bench = Bench::new(Via::File, Repo::with(&[("a", "1")]));
    let mut source = bench.source();
    look(&mut source).await;
    bench.repo.publish(&[("a", "right")]);
    let right = bench.repo.git(&["rev-parse", "HEAD:a"]);
    let wrong = crate::repo::run(&bench.repo.bare(), &["hash-object", "-w", "--stdin"], b"wrong");
    bench.repo.bare_git(&["replace", &right, &wrong]);
    hide(&bench);
    look(&mut source).await;
    assert_eq!(text(&mut source, "a").await, "right");
    // A loose object with other bytes is not taken, although git would send it.
    bench.repo.bare_git(&["config", "--unset", "uploadpack.hideRefs"]);
    bench.repo.publish(&[("a", "next")]);
    let next = bench.repo.git(&["rev-parse", "HEAD:a"]);
    let place = |id: &str| bench.repo.bare().join("objects").join(&id[..2]).join(&id[2..]);
    let file = place(&next);
    std::fs::remove_file(&file).unwrap();
    std::fs::copy(place(&wrong), &file).unwrap();
    let told = match source.observe(Ask::Hinted, None).await {
        Ok(_) => read(&mut source, "a").await.content.unwrap_err().to_string(),
        Err(error) => format!("{:?}", error.source),
    };
    assert!(told.contains(&next), "{told}");
}

#[tokio::test]
async fn a_remote_without_its_history_and_a_large_push_are_fetched() {
    let bench = Bench::new(Via::File, Repo::with(&[("a", "1")]));
    let mut source = bench.source();
    look(&mut source).await;
    // More than is copied at a time.
    bench.repo.publish(&[("large", &"0123456789abcde\n".repeat(33 << 16))]);
    let seen = look(&mut source).await;
    assert_eq!(paths(&seen), ["a", "large"]);
    let shallow = bench.repo.root().join("shallow.git");
    let url = format!("file://{}", bench.repo.bare().display());
    let to = shallow.display().to_string();
    crate::repo::run(bench.repo.root(), &["clone", "--quiet", "--bare", "--depth=1", &url, &to], b"");
    let mut source = GitSource::open(bench.options(&to));
    look(&mut source).await;
    bench.repo.publish(&[("a", "2")]);
    bench.repo.publish(&[("a", "3")]);
    crate::repo::run(&shallow, &["fetch", "--quiet", "--depth=1", "origin", "+main:main"], b"");
    look(&mut source).await;
    assert_eq!(text(&mut source, "a").await, "3");
}
