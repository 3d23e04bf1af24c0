// SPDX-License-Identifier: MIT
// PoolClient PORT SECONDS WORKERS: Java's HttpClient; else as pool_client.py.
import java.net.ConnectException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;

public class PoolClient {
    static final HttpClient client =
        HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    static String post(URI uri, String id) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(uri).timeout(Duration.ofSeconds(10))
            .POST(HttpRequest.BodyPublishers.ofString(id)).build();
        while (true) {
            try {
                HttpResponse<String> answer =
                    client.send(request, HttpResponse.BodyHandlers.ofString());
                return answer.statusCode() == 200 && answer.body().equals(id)
                    ? "answered " + id : "lost " + id + ": " + answer + " " + answer.body();
            } catch (ConnectException error) { // nothing has been sent
                Thread.sleep(50);
            } catch (Exception error) {
                return "lost " + id + ": " + error;
            }
        }
    }

    static volatile long end;

    public static void main(String[] arguments) throws Exception {
        URI uri = URI.create("http://127.0.0.1:" + arguments[0] + "/slow?0.01");
        List<Thread> workers = new ArrayList<>();
        end = System.currentTimeMillis() + (long) (1000 * Double.parseDouble(arguments[1]));
        for (int i = 0; i < Integer.parseInt(arguments[2]); i++) {
            int worker = i;
            workers.add(new Thread(() -> {
                Random random = new Random();
                try {
                    for (int number = 1; System.currentTimeMillis() < end; number++) {
                        System.out.println(post(uri, worker + "-" + number));
                        Thread.sleep(random.nextInt(4));
                    }
                } catch (Exception error) {
                    System.out.println("lost: " + error);
                }
            }));
        }
        workers.forEach(Thread::start);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> { // at a SIGTERM as well
            end = 0;
            try {
                for (Thread worker : workers)
                    worker.join();
            } catch (InterruptedException error) {
                Runtime.getRuntime().halt(1);
            }
            System.out.flush();
            Runtime.getRuntime().halt(0);
        }));
    }
}
