import java.util.ArrayList;
import java.util.List;

/** A heap of byte arrays that grows, flat out. With the argument `idle` it ends at once. */
public class Fill {
    public static void main(String[] arguments) {
        List<byte[]> held = new ArrayList<>();
        while (arguments.length == 0) {
            held.add(new byte[64 << 10]);
        }
    }
}
