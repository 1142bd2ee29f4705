//! memini under memini: an image that has one, on an engine that brings one.

use crate::support::app::{python, shell, words};
use crate::support::memini::{Memini, Place, binary};

fn inner(options: &[&str], app: Vec<String>) -> Vec<String> {
    let memini = [words(&[binary().to_str().unwrap()]), words(options), words(&["--"]), app];
    memini.concat()
}

#[test]
fn exit_codes_pass_through_both() {
    for place in Place::ALL {
        Memini::at(place).run(inner(&[], shell("exit 9"))).expect(9);
        Memini::at(place).run(inner(&[], shell("kill -KILL $$"))).expect(137);
        Memini::at(place).options(["-g"]).run(inner(&["-g"], words(&["/no/such/app"]))).expect(127);
    }
}

#[test]
fn a_signal_passes_through_both_once() {
    let app = "
block()
say('ready')
assert take()[0] == signal.SIGTERM
os.kill(os.getppid(), signal.SIGUSR1)
assert take()[0] == signal.SIGUSR1
assert pending() == [], pending()
os._exit(6)
";
    for place in Place::ALL {
        for options in [&[][..], &["-g"]] {
            let mut memini = Memini::at(place).options(options).start(inner(options, python(app)));
            memini.output.wait_for("ready\n");
            memini.signal(libc::SIGTERM);
            memini.finish().expect(6);
        }
    }
}

#[test]
fn leftovers_of_the_inner_one_are_gone_with_it() {
    for place in Place::ALL {
        let finished = Memini::at(place).run(inner(&[], shell("sleep 1000 & exit 8")));
        finished.expect(8);
    }
}
