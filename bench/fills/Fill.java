import java.util.ArrayList;
import java.util.List;

/**
 * A heap of byte arrays that grows, flat out. With the argument `idle` it ends at once. With `leak START RATE` a list of small
 * objects, as apps leak: START bytes at once, and RATE a second from then on.
 */
public class Fill {
    static final int SIZE = 1000, AT_A_TIME = 200;
    static final List<Leaked> leaked = new ArrayList<>();

    static class Leaked {
        final byte[] body = new byte[SIZE];
    }

    public static void main(String[] arguments) throws InterruptedException {
        if (arguments.length == 3) {
            leak(Long.parseLong(arguments[1]), Long.parseLong(arguments[2]));
        }
        List<byte[]> held = new ArrayList<>();
        while (arguments.length == 0) {
            held.add(new byte[64 << 10]);
        }
    }

    static void leak(long start, long rate) throws InterruptedException {
        long begun = System.nanoTime();
        for (long given = 0;;) {
            while (given < start + rate * (System.nanoTime() - begun) / 1e9) {
                for (int count = 0; count < AT_A_TIME; count++) {
                    leaked.add(new Leaked());
                }
                given += SIZE * AT_A_TIME;
            }
            Thread.sleep(5);
        }
    }
}
