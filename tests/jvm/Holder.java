import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Holds a known number of objects, and as much beside them as it is told; answers each line on its input. */
public class Holder {
    static class Base {
        long stamp = 0x5345435245543634L; // "SECRET64"
    }

    static class Session extends Base {
        int number = 0x53435232; // "SCR2"
        String name;
        byte[] data;

        Session(String name, byte[] data) {
            this.name = name;
            this.data = data;
        }
    }

    static final Map<Integer, Session> SESSIONS = new HashMap<>();
    static final List<Object> BALLAST = new ArrayList<>();
    static long secret = 0x5345435354415449L; // "SECSTATI"

    public static void main(String[] arguments) throws Exception {
        int count = Integer.parseInt(arguments[0]);
        int megabytes = arguments.length > 1 ? Integer.parseInt(arguments[1]) : 0;
        // Put together here, so that it is in no constant of the code.
        String secret = new StringBuilder("terces-pot").reverse().toString();
        for (int number = 0; number < count; number++) {
            SESSIONS.put(number, new Session(secret + "-" + number, new byte[16]));
        }
        // Small objects, half of them text, half of them noise, as heaps have it.
        long state = 1;
        for (long size = 0; size < (long) megabytes << 20; ) {
            byte[] bytes = new byte[64 + (int) (state >>> 33) % 256];
            for (int at = 0; at < bytes.length; at++) {
                state = state * 6364136223846793005L + 1442695040888963407L;
                bytes[at] = at % 2 == 0 ? (byte) 'a' : (byte) (state >>> 40);
            }
            BALLAST.add(new Object[] {bytes, Long.valueOf(state), null, null});
            size += bytes.length + 16 + 16 + 32 + 24;
        }
        System.out.println("ready");
        start(Holder::watch);
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = input.readLine()) != null; ) {
            leak(line.split(" "));
            System.out.println(line + " " + SESSIONS.size() + " " + longest);
            longest = 0;
        }
    }

    /** Takes memory outside the heap: `direct MEGABYTES`, `classes COUNT`, `threads COUNT`; or `spin`, see there. */
    static void leak(String[] words) throws Exception {
        for (int left = words.length == 2 ? Integer.parseInt(words[1]) : 0; left > 0; left--) {
            if (words[0].equals("direct")) {
                BALLAST.add(ByteBuffer.allocateDirect(1 << 20));
            } else if (words[0].equals("classes")) {
                BALLAST.add(new Loader().load());
            } else if (words[0].equals("threads")) {
                start(Holder::sleep);
            }
        }
        if (words[0].equals("spin")) {
            start(Holder::spin);
        }
    }

    static void start(Runnable work) {
        Thread thread = new Thread(work);
        thread.setDaemon(true);
        thread.start();
    }

    static void sleep() {
        try {
            Thread.sleep(Long.MAX_VALUE);
        } catch (InterruptedException stop) {
            return;
        }
    }

    /** Each defines its own copy of this class. */
    static class Loader extends ClassLoader {
        static byte[] code;

        Class<?> load() throws Exception {
            if (code == null) {
                ByteArrayOutputStream all = new ByteArrayOutputStream();
                try (InputStream input = Holder.class.getResourceAsStream("Holder.class")) {
                    for (int next; (next = input.read()) >= 0; ) {
                        all.write(next);
                    }
                }
                code = all.toByteArray();
            }
            Class<?> copy = defineClass(null, code, 0, code.length);
            // Linked, as those of an app are that are used.
            copy.getMethod("prime").invoke(null);
            return copy;
        }
    }

    static volatile long result;

    public static void prime() {
        result = 1;
    }

    /** A loop of the kind that HotSpot compiles without a stop in it: nobody gets to a safepoint until it is done. */
    static void spin() {
        for (long round = 0; ; round++) {
            long value = round;
            for (int at = 1; at < Integer.MAX_VALUE; at++) {
                value = value % at + value / at + at;
                value = value % (at + 7L) + value / (at + 3L);
            }
            result = value;
        }
    }

    static volatile long longest;

    /** Notes for how long this thread did not get on. Milliseconds. */
    static void watch() {
        for (long last = System.nanoTime(); ; ) {
            try {
                Thread.sleep(1);
            } catch (InterruptedException stop) {
                return;
            }
            long now = System.nanoTime();
            longest = Math.max(longest, (now - last) / 1000000);
            last = now;
        }
    }
}
