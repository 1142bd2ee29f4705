import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.List;

/** Leaks so many megabytes for each line of standard input that says so. */
public class Leak {
    static class Ticket {
        final byte[] body = new byte[1000];
        final String name = "ticket " + TICKETS.size();
    }

    static final List<Ticket> TICKETS = new ArrayList<>();

    public static void main(String[] arguments) throws Exception {
        Runtime.getRuntime().addShutdownHook(new Thread(() -> System.err.println("it leaves")));
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            for (int count = Integer.parseInt(line) * 1000; count > 0; count--) {
                TICKETS.add(new Ticket());
                // 20 MB a second: a leak, and not a rush.
                if (count % 100 == 0) {
                    Thread.sleep(5);
                }
            }
            System.out.println("done " + line);
        }
    }
}
