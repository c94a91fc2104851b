//! FJ9: a first start that is cut short at any step is begun again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use super::{Image, factor, folder, options};
use crate::storage::Fjall;
use crate::storage::recover::{self, Refill};

fn starts(data: &Path) {
    let (_, opened) = recover::open(data, &options(1), Refill::Nobody).unwrap();
    assert!(opened.is_new);
}

#[test]
fn a_first_start_may_be_cut_short_anywhere() {
    // States that were seen on the way.
    for _ in 0..6 * factor() {
        let live = folder();
        let path = live.path().to_owned();
        let (done, is_done) = mpsc::channel();
        let first = std::thread::spawn(move || {
            drop(Fjall::open(&path).unwrap());
            done.send(()).unwrap();
        });
        let mut images = Vec::new();
        while is_done.try_recv().is_err() {
            let image = Image::of(live.path());
            if images.last() != Some(&image) {
                images.push(image);
            }
        }
        first.join().unwrap();
        for image in images {
            let copy = folder();
            image.write(copy.path());
            starts(copy.path());
        }
    }
    // And all states before the folder is renamed: any of its files may be missing.
    let live = folder();
    drop(Fjall::open(live.path()).unwrap());
    let whole = Image::of(live.path());
    let names: Vec<PathBuf> = whole.0.keys().cloned().collect();
    for cut in 0..=names.len() {
        let fresh =
            |name: &PathBuf| Path::new("store.new").join(name.strip_prefix("store").unwrap());
        let some = names
            .iter()
            .take(cut)
            .filter(|name| name.starts_with("store"));
        let files: BTreeMap<_, _> = some
            .map(|name| (fresh(name), whole.0[name].clone()))
            .collect();
        let copy = folder();
        Image(files).write(copy.path());
        starts(copy.path());
    }
}
