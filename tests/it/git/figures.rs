//! Measured figures; printed with `--nocapture`.

use super::*;

fn figure(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let (middle, last) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{name:<40} p50 {middle:>10.2?}  worst {last:>10.2?}  of {}", times.len());
}

#[tokio::test]
async fn figures() {
    let files: Vec<_> = (0..10_000).map(|n| (format!("d{}/f{n}", n % 1000), n.to_string())).collect();
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    both(&files, |bench| async move {
        let via = bench.via;
        let mut source = bench.source();
        let begun = Instant::now();
        let first = look(&mut source).await;
        figure(&format!("{via:?}: first fetch, 10,000 files"), vec![begun.elapsed()]);
        let wants = first.tree.iter().map(|(path, _)| want(path.as_str())).collect::<Vec<_>>();
        let begun = Instant::now();
        let all = source.read(wants, no_sink()).await.unwrap();
        figure(&format!("{via:?}: read of 10,000 files"), vec![begun.elapsed()]);
        assert!(all.iter().all(|one| one.content.is_ok()));
        let mut same = Vec::new();
        for _ in 0..30 {
            let begun = Instant::now();
            assert!(look_from(&mut source, at(&first)).await.changes.is_none());
            same.push(begun.elapsed());
        }
        figure(&format!("{via:?}: no change"), same);
        let mut one = Vec::new();
        for n in 0..10 {
            let path = format!("d{}/f{}", n * 7, n * 7);
            bench.repo.publish(&[(&path, "new")]);
            let begun = Instant::now();
            let seen = look_from(&mut source, at(&first)).await;
            one.push(begun.elapsed());
            assert_eq!((changed(&seen), seen.rewritten), (vec![path.as_str()], false));
        }
        figure(&format!("{via:?}: one commit of one file"), one);
        let packs = std::fs::read_dir(bench.store().join("objects/pack")).unwrap().flatten();
        let sizes: Vec<u64> = packs.map(|file| file.metadata().unwrap().len()).collect();
        println!("{via:?}: {} pack and index files, {} KiB", sizes.len(), sizes.iter().sum::<u64>() / 1024);
    })
    .await;
}
