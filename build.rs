//! Tells the binary which commit it was built from, for `memini --version`, and places its code.

use std::path::Path;
use std::process::Command;

/// Overrides git: for builds from an archive or in an image that has no git.
const VARIABLE: &str = "MEMINI_COMMIT";

/// `docker info` compares the commit with its own one and old engines slice that by our length: seven, as git does.
const LENGTH: usize = 7;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed={VARIABLE}");
    let commit = std::env::var(VARIABLE).ok().or_else(head).filter(|commit| is_commit(commit));
    let commit = commit.as_deref().and_then(|commit| commit.get(..LENGTH)).unwrap_or("unknown");
    println!("cargo:rustc-env={VARIABLE}={commit}");
    place_resident_code();
}

/// In the static binary, as it is shipped, the linker puts together what PID 1 runs when memory is short.
fn place_resident_code() {
    let script = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("src/sys/resident.ld");
    println!("cargo:rerun-if-changed={}", script.display());
    println!("cargo:rustc-check-cfg=cfg(resident)");
    if std::env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("musl") {
        println!("cargo:rustc-link-arg=-Wl,-T,{}", script.display());
        println!("cargo:rustc-cfg=resident");
    }
}

/// The commit of this repository, if it is one: not of another one that it was unpacked in.
fn head() -> Option<String> {
    if !git(&["rev-parse", "--show-prefix"])?.is_empty() {
        return None;
    }
    // The log of HEAD changes at each commit and checkout, in a linked worktree as well.
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name])?;
        if Path::new(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn is_commit(text: &str) -> bool {
    text.len() >= LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
