package shop;

import jakarta.servlet.ServletContextEvent;
import jakarta.servlet.ServletContextListener;
import jakarta.servlet.annotation.WebListener;
import jakarta.servlet.annotation.WebServlet;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;

/** Keeps a session for each visitor who brings no ticket, and never lets one go. */
@WebServlet("/")
public class Shop extends HttpServlet {
    static class Item {
        final String name;
        final int price;

        Item(String name, int price) {
            this.name = name;
            this.price = price;
        }
    }

    static class Session {
        final String id = UUID.randomUUID().toString();
        final List<Item> basket = new ArrayList<>();
        final byte[] seen = new byte[10_000];
    }

    static class Sessions {
        final Map<String, Session> open = new ConcurrentHashMap<>();
    }

    static final Sessions SESSIONS = new Sessions();

    @Override
    protected void doGet(HttpServletRequest request, HttpServletResponse response) throws IOException {
        Session session = new Session();
        session.basket.add(new Item("apples, " + session.id, 3));
        session.basket.add(new Item("pears, " + session.id, 4));
        SESSIONS.open.put(session.id, session);
        response.setContentType("text/html");
        byte[] answer = page(session).getBytes("UTF-8");
        response.setContentLength(answer.length);
        response.getOutputStream().write(answer);
    }

    /** Most of what a server allocates is needed for one answer only. */
    private static String page(Session session) {
        StringBuilder page = new StringBuilder("<ul>");
        for (int row = 0; row < 250; row++) {
            for (Item item : session.basket) {
                page.append("<li>").append(row).append(": ").append(item.name).append(", ").append(item.price);
            }
        }
        return page.append("</ul>\n").toString();
    }

    /** Says that the server has come to the end of what it does when it is asked to leave. */
    @WebListener
    public static class Closing implements ServletContextListener {
        @Override
        public void contextDestroyed(ServletContextEvent event) {
            System.err.println("the shop closes after " + SESSIONS.open.size() + " sessions");
        }
    }
}
