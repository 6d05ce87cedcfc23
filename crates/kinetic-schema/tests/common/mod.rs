//! Reads folders of fixtures.

use std::path::Path;

use kinetic_schema::Files;

/// All files below a folder, by path relative to it.
pub(crate) fn files(root: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name =
                    path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
                #[expect(clippy::disallowed_methods, reason = "a test reads its fixtures")]
                files.insert(name, std::fs::read(&path).expect("a file"));
            }
        }
    }
    files
}

/// The folders directly inside a folder, each with its files, by name.
pub(crate) fn folders(root: &Path) -> Vec<(String, Files)> {
    let mut found: Vec<(String, Files)> = root
        .read_dir()
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .map(|path| (path.file_name().expect("a name").to_string_lossy().into_owned(), files(&path)))
        .collect();
    found.sort();
    found
}
