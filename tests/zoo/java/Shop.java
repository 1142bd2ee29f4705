import com.sun.net.httpserver.HttpServer;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.WeakHashMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;

/** A server of the JDK's own with a pool of threads, which leaks in each request in the way that it is told: Shop KIND. */
public class Shop {
    interface Page {
        void visit(String path) throws Exception;
    }

    static class Session {
        final String path;
        final List<String> lines = new ArrayList<>();

        Session(String path) {
            this.path = path;
            for (int number = 0; number < 200; number++) {
                lines.add(path + " line " + number);
            }
        }
    }

    static class Parser {
        final char[] buffer = new char[8 << 10];
    }

    interface Listener {
        void changed(String what);
    }

    static class View implements Listener {
        final String[] cells = new String[400];

        View(String path) {
            for (int number = 0; number < cells.length; number++) {
                cells[number] = path + " cell " + number;
            }
        }

        public void changed(String what) {
            cells[0] = what;
        }
    }

    /** What is to be done for a request later. */
    static class Order implements Runnable {
        final String[] items = new String[300];

        Order(String path) {
            for (int number = 0; number < items.length; number++) {
                items[number] = path + " item " + number;
            }
        }

        public void run() {
            items[0] = "timed out";
        }
    }

    static class Bus {
        final List<Listener> listeners = new ArrayList<>();
    }

    static final Map<String, Session> SESSIONS = new ConcurrentHashMap<>();
    static final ThreadLocal<List<Parser>> PARSERS = ThreadLocal.withInitial(ArrayList::new);
    static final Bus BUS = new Bus();
    static final Map<String, byte[]> PICTURES = new ConcurrentHashMap<>();
    static final List<String> NAMES = new ArrayList<>();
    static final List<InputStream> STREAMS = new ArrayList<>();
    static final List<ByteBuffer> BUFFERS = new ArrayList<>();
    static final List<Class<?>> RULES = new ArrayList<>();
    static final ScheduledThreadPoolExecutor LATER = new ScheduledThreadPoolExecutor(1);
    static final Map<Object, Visit> VISITS = new WeakHashMap<>();

    /** Refers to its key, which therefore is never forgotten. */
    static class Visit {
        final Object key;
        final String[] steps = new String[300];

        Visit(Object key, String path) {
            this.key = key;
            for (int number = 0; number < steps.length; number++) {
                steps[number] = path + " step " + number;
            }
        }
    }

    /** Loads the class Rule again, each time as a new class. */
    static class Loader extends ClassLoader {
        final byte[] code;

        Loader(byte[] code) {
            super(null);
            this.code = code;
        }

        @Override
        protected Class<?> findClass(String name) throws ClassNotFoundException {
            if (!name.equals("Rule")) {
                throw new ClassNotFoundException(name);
            }
            return defineClass(name, code, 0, code.length);
        }
    }

    static Page page(String kind) throws Exception {
        switch (kind) {
            case "map":
                return path -> SESSIONS.computeIfAbsent(path, Session::new);
            case "thread-local":
                return path -> PARSERS.get().add(new Parser());
            case "listeners":
                return path -> {
                    synchronized (BUS) {
                        BUS.listeners.add(new View(path));
                    }
                };
            case "bytes":
                return path -> PICTURES.computeIfAbsent(path, unused -> new byte[32 << 10]);
            case "intern":
                return path -> {
                    synchronized (NAMES) {
                        for (int number = 0; number < 200; number++) {
                            NAMES.add((path + " name " + number).intern());
                        }
                    }
                };
            case "streams":
                Path file = Files.createTempFile("shop", "page");
                file.toFile().deleteOnExit();
                return path -> {
                    synchronized (STREAMS) {
                        STREAMS.add(Files.newInputStream(file));
                    }
                };
            case "direct":
                return path -> {
                    ByteBuffer buffer = ByteBuffer.allocateDirect(32 << 10);
                    synchronized (BUFFERS) {
                        BUFFERS.add(buffer);
                    }
                };
            case "classes":
                byte[] code = Shop.class.getResourceAsStream("/Rule.class").readAllBytes();
                return path -> {
                    Class<?> rule = Class.forName("Rule", true, new Loader(code));
                    synchronized (RULES) {
                        RULES.add(rule);
                    }
                };
            case "timeouts":
                return path -> LATER.schedule(new Order(path), 1, TimeUnit.HOURS);
            case "weak":
                return path -> {
                    synchronized (VISITS) {
                        Object key = new Object();
                        VISITS.put(key, new Visit(key, path));
                    }
                };
            case "threads":
                return path -> {
                    Thread thread = new Thread(() -> {
                        try {
                            new CountDownLatch(1).await();
                        } catch (InterruptedException stop) {
                            return;
                        }
                    });
                    thread.setDaemon(true);
                    thread.start();
                };
            // Healthy: whatever a request needs is garbage afterwards.
            case "garbage":
                return path -> {
                    Map<Integer, Session> sessions = new HashMap<>();
                    for (int number = 0; number < 5; number++) {
                        sessions.put(number, new Session(path));
                    }
                };
            default:
                throw new IllegalArgumentException(kind);
        }
    }

    public static void main(String[] arguments) throws Exception {
        Page page = page(arguments[0]);
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 128);
        server.setExecutor(Executors.newFixedThreadPool(4));
        byte[] body = "ok".getBytes(StandardCharsets.UTF_8);
        server.createContext("/", exchange -> {
            try {
                URI address = exchange.getRequestURI();
                page.visit(address.getPath());
            } catch (Exception error) {
                throw new IllegalStateException(error);
            }
            exchange.getRequestBody().readAllBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
        System.out.println("steady " + server.getAddress().getPort());
    }
}

/** What is loaded again and again; some code, so that there is something to load. */
class Rule {
    static final Map<String, String> TABLE = new HashMap<>();
    String name = "rule";

    String apply(String text) {
        return TABLE.computeIfAbsent(text, key -> key + name);
    }

    int price(int count, int each, int discount) {
        int sum = count * each;
        return sum > 1000 ? sum - sum * discount / 100 : sum;
    }
}
