import java.io.BufferedReader;
import java.io.InputStreamReader;
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
        Thread clock = new Thread(Holder::watch);
        clock.setDaemon(true);
        clock.start();
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = input.readLine()) != null; ) {
            System.out.println(line + " " + SESSIONS.size() + " " + longest);
            longest = 0;
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
