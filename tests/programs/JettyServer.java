// SPDX-License-Identifier: MIT
// JettyServer PORT: Jetty 9, HTTP/2 in the clear; /slowN is answered after N seconds, all else at once.
import java.io.IOException;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.eclipse.jetty.http2.server.HTTP2CServerConnectionFactory;
import org.eclipse.jetty.server.HttpConfiguration;
import org.eclipse.jetty.server.HttpConnectionFactory;
import org.eclipse.jetty.server.Request;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.server.handler.AbstractHandler;

public class JettyServer extends AbstractHandler {
    @Override
    public void handle(String path, Request base, HttpServletRequest request, HttpServletResponse response)
            throws IOException {
        base.setHandled(true);
        try {
            if (path.startsWith("/slow"))
                Thread.sleep(1000 * Integer.parseInt(path.substring(5)));
        } catch (InterruptedException stopped) {
            return;
        }
        response.getOutputStream().print("It works");
    }

    public static void main(String[] arguments) throws Exception {
        Server server = new Server();
        HttpConfiguration as_is = new HttpConfiguration();
        ServerConnector connector = new ServerConnector(server, new HttpConnectionFactory(as_is),
                                                        new HTTP2CServerConnectionFactory(as_is));
        connector.setHost("127.0.0.1");
        connector.setPort(Integer.parseInt(arguments[0]));
        server.addConnector(connector);
        server.setHandler(new JettyServer());
        server.start();
    }
}
