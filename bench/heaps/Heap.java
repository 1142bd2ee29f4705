import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** As heap.py. */
public class Heap {
    record Session(long number, List<String> words, Map<String, Object> fields) {}

    static final Map<Long, Session> SESSIONS = new HashMap<>();
    static volatile long longest;

    static void watch() {
        long last = System.nanoTime();
        while (true) {
            Thread.onSpinWait();
            long now = System.nanoTime();
            longest = Math.max(longest, now - last);
            last = now;
        }
    }

    public static void main(String[] arguments) throws Exception {
        // An object with what it holds takes about 0.9 kB.
        for (long number = 0; number < Long.parseLong(arguments[0]) * 1000 * 1000 / 900; number++) {
            List<String> words = new ArrayList<>();
            for (int step = 0; step < 6; step++) {
                words.add("word " + (number + step));
            }
            Map<String, Object> fields = new HashMap<>(Map.of("user", "user " + number, "path", "/items/" + number, "size", number * 3));
            SESSIONS.put(number, new Session(number, words, fields));
        }
        Thread watcher = new Thread(Heap::watch);
        watcher.setDaemon(true);
        watcher.start();
        System.out.println("ready");
        while (System.in.read() >= 0) {
            System.out.printf("%.1f%n", longest / 1e6);
            longest = 0;
        }
    }
}
