/** A healthy JVM for bench/calm; what it is told and answers is described in app.py.
 *
 * Heap LEAST MOST: a ring of blocks fills the old generation with LEAST to MOST MiB, up and down; each block is soon replaced,
 * and each step leaves garbage behind. */
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayDeque;

final class Heap {
    private static final int BLOCK = 64 * 1024;
    private final ArrayDeque<byte[]> held = new ArrayDeque<>();
    private final int least;
    private final int most;
    private boolean rising = true;
    private long sum;

    private Heap(int least, int most) {
        this.least = least * 16;
        this.most = most * 16;
    }

    private void step() {
        for (int garbage = 0; garbage < 8; garbage++) {
            byte[] waste = new byte[BLOCK / 4];
            waste[garbage] = 1;
            sum += waste.length + waste[garbage];
        }
        held.addLast(new byte[BLOCK]);
        rising = rising ? held.size() < most : held.size() <= least;
        // One in, one out; while it falls, two.
        if (!rising || held.size() >= most) {
            held.pollFirst();
            held.pollFirst();
        }
        byte[] first = held.peekFirst();
        first[(int) (sum & 1023)]++;
    }

    public static void main(String[] words) throws Exception {
        Heap heap = new Heap(Integer.parseInt(words[0]), Integer.parseInt(words[1]));
        // Twice up and down: by then the collector has found its sizes.
        for (int count = 0; count < 4 * heap.most; count++) {
            heap.step();
        }
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        System.out.println("ready");
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            long begun = System.nanoTime();
            long span = (long) (Double.parseDouble(line.split(" ")[1]) * 1e9);
            long steps = 0;
            while (System.nanoTime() - begun < span) {
                heap.step();
                steps++;
            }
            System.out.println("did " + steps + " " + (System.nanoTime() - begun) / 1e9);
        }
    }
}
