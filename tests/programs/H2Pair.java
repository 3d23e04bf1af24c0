// SPDX-License-Identifier: MIT
// H2Pair URL DIRECTORY: Java's HttpClient as a client of HTTP/2, in the clear by an upgrade; else as h2_pair.py.
import java.net.ConnectException;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.cert.X509Certificate;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509ExtendedTrustManager;

public class H2Pair {
    static final Map<String, int[]> rows = new LinkedHashMap<>();
    static String at;

    static void get(HttpClient client, String path) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(at + path)).timeout(Duration.ofSeconds(20)).build();
        var answer = client.send(request, BodyHandlers.ofString());
        if (answer.statusCode() != 200)
            throw new Exception("status " + answer.statusCode());
    }

    static boolean ask(String row, HttpClient client, String path) {
        Exception lost = null;
        try {
            get(client, path);
        } catch (ConnectException refused) {
            return false;
        } catch (Exception error) {
            lost = error;
            if (System.getenv("PAIR_SAYS") != null)
                System.err.println(row + " " + error);
        }
        int[] counts = rows.get(row);
        synchronized (counts) {
            counts[0] += lost != null ? 1 : 0;
            counts[1]++;
        }
        return lost == null;
    }

    static void loop(String row, HttpClient client) throws InterruptedException {
        while (ask(row, client, "/"))
            Thread.sleep(1);
    }

    static SSLContext any() throws Exception {
        var trusts = new X509ExtendedTrustManager() {
            public void checkClientTrusted(X509Certificate[] chain, String type) {}
            public void checkServerTrusted(X509Certificate[] chain, String type) {}
            public void checkClientTrusted(X509Certificate[] chain, String type, Socket socket) {}
            public void checkServerTrusted(X509Certificate[] chain, String type, Socket socket) {}
            public void checkClientTrusted(X509Certificate[] chain, String type, SSLEngine engine) {}
            public void checkServerTrusted(X509Certificate[] chain, String type, SSLEngine engine) {}
            public X509Certificate[] getAcceptedIssuers() { return new X509Certificate[0]; }
        };
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, new TrustManager[] { trusts }, null);
        return context;
    }

    interface Does {
        void run() throws Exception;
    }

    static void begin(List<Thread> all, Does does) {
        Thread thread = new Thread(() -> {
            try {
                does.run();
            } catch (Exception error) {
                throw new RuntimeException(error);
            }
        });
        all.add(thread);
        thread.start();
    }

    public static void main(String[] args) throws Exception {
        at = args[0];
        for (String row : List.of("slow", "loop", "ten", "idle"))
            rows.put(row, new int[2]);
        List<HttpClient> clients = new ArrayList<>();
        for (int i = 0; i < 10; i++) {
            clients.add(HttpClient.newBuilder().sslContext(any()).version(HttpClient.Version.HTTP_2).build());
            get(clients.get(i), "/");
        }
        List<Thread> all = new ArrayList<>();
        begin(all, () -> ask("slow", clients.get(0), "/slow3"));
        for (int i = 1; i < 5; i++) {
            HttpClient client = clients.get(i);
            begin(all, () -> loop("loop", client));
        }
        for (int i = 0; i < 10; i++)
            begin(all, () -> loop("ten", clients.get(5)));
        for (int i = 6; i < 10; i++) {
            HttpClient client = clients.get(i);
            begin(all, () -> {
                while (!Files.exists(Path.of(args[1], "next")))
                    Thread.sleep(20);
                ask("idle", client, "/");
            });
        }
        Thread.sleep(300);
        System.out.println("ready");
        for (Thread thread : all)
            thread.join(40000);
        StringBuilder said = new StringBuilder();
        rows.forEach((row, counts) -> said.append(row + " " + counts[0] + "/" + counts[1] + " "));
        System.out.println(said.toString().trim());
        System.exit(0);
    }
}
