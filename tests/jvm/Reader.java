import java.io.File;
import java.util.Iterator;
import java.util.List;
import org.graalvm.visualvm.lib.jfluid.heap.Heap;
import org.graalvm.visualvm.lib.jfluid.heap.HeapFactory;
import org.graalvm.visualvm.lib.jfluid.heap.Instance;
import org.graalvm.visualvm.lib.jfluid.heap.JavaClass;

/** Prints of which classes there are objects in a heap dump, and how many; see `read`, which runs it. */
public class Reader {
    public static void main(String[] arguments) throws Exception {
        Heap heap = HeapFactory.createHeap(new File(arguments[0]));
        long all = 0;
        for (Object each : heap.getAllClasses()) {
            JavaClass type = (JavaClass) each;
            int count = type.getInstancesCount();
            if (count == 0) {
                continue;
            }
            all += count;
            System.out.println(type.getName() + " " + count);
            // The first one can be found where the index says it is, with all its fields.
            Instance first = (Instance) type.getInstancesIterator().next();
            if (!first.getJavaClass().getName().equals(type.getName())) {
                throw new IllegalStateException(first.getJavaClass().getName() + " in place of " + type.getName());
            }
            List<?> values = first.getFieldValues();
            for (Iterator<?> rest = values.iterator(); rest.hasNext(); ) {
                rest.next().toString();
            }
        }
        long total = heap.getSummary().getTotalLiveInstances();
        if (total != all) {
            throw new IllegalStateException(all + " objects by class, " + total + " in all");
        }
    }
}
